"""Atomic writes: after a crash, a file is either the old or the new one."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial-"
"""Prefix of temporary names; leftovers may be deleted."""


@contextlib.contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """A temporary path that replaces the file once the context ends without an error.

    Args:
        file: The file to create or replace.

    Yields:
        Path: In the same folder, with the same suffix.

    Raises:
        OSError: If it cannot be written; the error names the file, which is unchanged.
    """
    partial = file.with_name(f"{PARTIAL}{file.name}")
    try:
        yield partial
        fsync(partial)
        os.replace(partial, file)
        fsync(file.parent)
    except OSError as error:
        # The error of a full disk names no file.
        raise OSError(error.errno, error.strerror or str(error), str(file)) from error
    finally:
        partial.unlink(missing_ok=True)


def atomic_write_text(file: Path, text: str) -> None:
    """Writes a text file so that it is either the old or the new one."""
    with atomic_write(file) as partial:
        partial.write_text(text)


def remove_partial_files(*folders: Path) -> None:
    """Deletes the temporary files and folders that a killed process left in these folders."""
    for folder in folders:
        for leftover in folder.glob(f"{PARTIAL}*"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink()


def fsync(path: Path) -> None:
    """Flushes a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
