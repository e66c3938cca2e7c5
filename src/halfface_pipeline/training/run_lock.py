"""The lock of a run folder: one training at a time, with unchanged settings and training images."""

import contextlib
import dataclasses
import json
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..config.files import differences, from_yaml, to_yaml
from ..config.schema import Config
from ..data.images import ImageSet
from ..run_folder.files import PARTIAL, atomic_write_text, remove_partial_files
from ..run_folder.lock import LOCK_FILE, lock_folder
from ..run_folder.log import CONFIG_FILE
from .save_model import list_skipped

IMAGES_FILE = "checkpoints/images.json"
"""Names and CRC-32 of the training images, in order."""
NAMES_SHOWN = 3


def check_run_folder(run: Path, config: Config) -> None:
    """Checks that this configuration may train in the run folder.

    Args:
        run: The folder.
        config: The run's configuration.

    Raises:
        ValueError: If it holds anything else, or a run with other settings.
    """
    if (run / CONFIG_FILE).exists():
        changed = _changed_settings(run, config)
        if changed and not config.output.overwrite:
            accept = (
                "" if _changed_settings(run, _accepting(config)) else "give --output.accept_changes true to resume, "
            )
            raise ValueError(
                f"output.dir is {str(run)!r}, which holds a run with other settings ({'; '.join(changed)}); "
                f"{accept}choose another folder, or give --output.overwrite true to delete that run"
            )
    elif run.exists() and (not run.is_dir() or _foreign_entries(run)):
        raise ValueError(f"output.dir is {str(run)!r}; it must be a new or empty folder, or that of an earlier run")


@contextlib.contextmanager
def lock_run(run: Path, config: Config, train_set: ImageSet, *others: ImageSet) -> Iterator[None]:
    """Locks the folder inside the context; under `output.overwrite` another run in it is deleted.

    The operating system releases the lock if the process is killed.

    Args:
        run: The folder, as `check_run_folder` passed it.
        config: The run's configuration.
        train_set: The images it trains on.
        *others: Further images whose skipped pictures are listed.

    Yields:
        None: The folder is locked, and holds the configuration.

    Raises:
        ValueError: If another training runs in the folder, it cannot be written to, or the run in it began with other
            settings or other images.
    """
    with lock_folder(run, "output.dir", "training"):
        # Another training may have changed the folder since the first check.
        check_run_folder(run, config)
        changed = _changed_images(run, train_set) if _has_begun(run) else None
        if changed and not (config.output.overwrite or config.output.accept_changes):
            raise ValueError(
                f"output.dir is {str(run)!r}, whose run began with other training images: {changed}; bring them back, "
                "choose another folder, or give --output.accept_changes true to resume with the new ones, or "
                "--output.overwrite true to delete that run"
            )
        if config.output.overwrite and (changed or _changed_settings(run, config)):
            _empty(run)
        remove_partial_files(run, run / "checkpoints", run / "samples")
        atomic_write_text(run / CONFIG_FILE, to_yaml(config))
        _record_images(run, train_set)
        list_skipped(run, train_set, *others)
        yield


def _accepting(config: Config) -> Config:
    return dataclasses.replace(config, output=dataclasses.replace(config.output, accept_changes=True))


def _changed_settings(run: Path, config: Config) -> list[str]:
    """The settings that keep the run in the folder, if any, from resuming; or why they cannot be read."""
    try:
        return differences(from_yaml(run / CONFIG_FILE), config) if _has_begun(run) else []
    except ValueError as error:
        return [str(error)]


def _has_begun(run: Path) -> bool:
    """Whether the folder holds a checkpoint or a model."""
    return any((run / "checkpoints").glob("step-*")) or (run / "model_index.json").exists()


def _foreign_entries(run: Path) -> list[Path]:
    """Entries that are not leftovers of a training killed before it wrote its configuration."""
    return [path for path in run.iterdir() if path.name != LOCK_FILE and not path.name.startswith(PARTIAL)]


def _empty(run: Path) -> None:
    """Deletes a run, its configuration last, so that an interrupted deletion is still recognized as a run."""
    for path in sorted(run.iterdir(), key=lambda path: path.name == CONFIG_FILE):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK_FILE:
            path.unlink()


def _digests(images: ImageSet) -> dict[str, int]:
    return {name: zlib.crc32(image) for name, image in zip(images.names, images.images, strict=True)}


def _record(run: Path) -> dict[str, Any] | None:
    """The content of images.json; None where it is missing or unreadable."""
    try:
        record = json.loads((run / IMAGES_FILE).read_text())
        return record if {"fingerprint", "images"} <= record.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _record_images(run: Path, images: ImageSet) -> None:
    record = _record(run)
    if record is None or record["fingerprint"] != images.fingerprint:
        (run / IMAGES_FILE).parent.mkdir(exist_ok=True)
        atomic_write_text(
            run / IMAGES_FILE, json.dumps({"fingerprint": images.fingerprint, "images": _digests(images)})
        )


def _changed_images(run: Path, images: ImageSet) -> str | None:
    """How the training images differ from those the run began with; None if every pixel is the same."""
    record = _record(run)
    # The fingerprint also depends on file times and paths.
    if record is None or record["fingerprint"] == images.fingerprint:
        return None
    before, now = record["images"], _digests(images)
    kinds = {
        "gone": [name for name in before if name not in now],
        "new": [name for name in now if name not in before],
        "changed": [name for name in now if name in before and now[name] != before[name]],
    }
    shown = [f"{len(names)} {kind} ({_few(names)})" for kind, names in kinds.items() if names]
    if shown:
        return f"of {len(before)}, " + ", ".join(shown)
    return "their order has changed" if list(before) != list(now) else None


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
