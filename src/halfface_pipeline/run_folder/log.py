"""The log of a run: log.jsonl, one JSON object per entry."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from .files import atomic_write_text

CONFIG_FILE, LOG_FILE = "config.yaml", "log.jsonl"
KEPT = "the checkpoints are kept. Once there is room, the same command resumes from the newest"


def read_log(file: Path) -> list[dict[str, float]]:
    """Entries of log.jsonl; lines damaged by a crash are left out."""
    entries = []
    for line in file.read_text(errors="replace").splitlines() if file.exists() else []:
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and all(_is_number(entry.get(key)) for key in ("step", "loss")):
                entries.append(entry)
    return entries


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@contextlib.contextmanager
def add_path_to_error(what: Path) -> Iterator[None]:
    """Adds to an OSError inside the context what cannot be written, and what is kept."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{what} cannot be written: {error}; {KEPT}") from error


def append_log(file: Path, line: dict[str, float | None]) -> None:
    """Adds a line to log.jsonl; OSError, saying what is kept, where it cannot be written."""
    with add_path_to_error(file), file.open("a") as log:
        log.write(json.dumps(line) + "\n")


def truncate_log(file: Path, step: int) -> None:
    """Removes damaged entries, and those beyond the step that training resumes from."""
    kept = [line for line in read_log(file) if line["step"] <= step]
    atomic_write_text(file, "".join(json.dumps(line) + "\n" for line in kept))
