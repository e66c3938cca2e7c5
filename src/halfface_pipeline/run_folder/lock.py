"""The lock of a folder that one process writes to."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

LOCK_FILE = ".lock"


@contextlib.contextmanager
def lock_folder(folder: Path, name: str, activity: str, wait: bool = False) -> Iterator[None]:
    """Creates a folder and locks it inside the context; the operating system releases the lock of a killed process.

    Args:
        folder: The folder.
        name: The setting or option that holds it, for messages.
        activity: What the lock is for, such as `training`.
        wait: Wait for a process that has locked it instead of raising.

    Yields:
        None: The folder is locked.

    Raises:
        ValueError: If another process has locked it, or it cannot be written to.
    """
    lock = filelock.FileLock(folder / LOCK_FILE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=wait)
    except filelock.Timeout as error:
        raise ValueError(
            f"{name} is {str(folder)!r}, in which another {activity} is running; stop it, or choose another folder"
        ) from error
    except OSError as error:
        raise ValueError(f"{name} is {str(folder)!r}; it must be a folder that can be written to: {error}") from error
    try:
        yield
    finally:
        lock.release()
