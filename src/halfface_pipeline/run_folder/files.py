"""Files that are the old one or the new one, never a part of one, whenever the machine stops."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial-"
"""Begins the name of what is being written; a leftover of it may be deleted."""


@contextlib.contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """A path to write to, which takes the file's place once the context ends without an error.

    Args:
        file: The file to make or to replace.

    Yields:
        Path: A path beside it with the same ending.

    Raises:
        OSError: If it cannot be written; it names the file, which is as it was.
    """
    partial = file.with_name(f"{PARTIAL}{file.name}")
    try:
        yield partial
        fsync(partial)
        os.replace(partial, file)
        fsync(file.parent)
    except OSError as error:
        # A write that fails for want of room does not say where.
        raise OSError(error.errno, error.strerror or str(error), str(file)) from error
    finally:
        partial.unlink(missing_ok=True)


def atomic_write_text(file: Path, text: str) -> None:
    """Writes a text file so that it is either the old or the new one."""
    with atomic_write(file) as partial:
        partial.write_text(text)


def remove_partial_files(*folders: Path) -> None:
    """Deletes what a killed process was writing to these folders, or deleting from them, as far as it lets itself."""
    for folder in folders:
        for leftover in folder.glob(f"{PARTIAL}*"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink()


def fsync(path: Path) -> None:
    """Asks the system to bring a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems know no flushing of folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
