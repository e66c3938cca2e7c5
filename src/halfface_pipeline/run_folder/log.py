"""The log of a run: log.jsonl, one object a logging step."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from .files import atomic_write_text

CONFIG_FILE, LOG_FILE = "config.yaml", "log.jsonl"
KEPT = "the checkpoints are kept. Once there is room, the same command goes on from the newest"


def read_log(file: Path) -> list[dict[str, float]]:
    """Lines of log.jsonl; a last line cut short by a crash is left out."""
    lines = []
    for line in file.read_text(errors="replace").splitlines() if file.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


@contextlib.contextmanager
def add_path_to_error(what: Path) -> Iterator[None]:
    """Has an OSError inside the context say what cannot be written, and what is kept."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{what} cannot be written: {error}; {KEPT}") from error


def append_log(file: Path, line: dict[str, float | None]) -> None:
    """Adds a line to log.jsonl; OSError, saying what is kept, where it cannot be written."""
    with add_path_to_error(file), file.open("a") as log:
        log.write(json.dumps(line) + "\n")


def truncate_log(file: Path, step: int) -> None:
    """Removes what was logged beyond the checkpoint that training goes on from."""
    kept = [line for line in read_log(file) if line["step"] <= step]
    atomic_write_text(file, "".join(json.dumps(line) + "\n" for line in kept))
