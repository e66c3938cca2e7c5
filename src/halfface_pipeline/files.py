"""Files that are the old one or the new one, never a part of one, whenever the machine stops."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial-"
"""Begins the name of what is being written; a leftover of it may be deleted."""


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path to write to, which takes the file's place once the context ends without an error.

    Args:
        file: The file to make or to replace.

    Yields:
        Path: A path beside it with the same ending.
    """
    partial = file.with_name(f"{PARTIAL}{file.name}")
    try:
        yield partial
        flush(partial)
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(file: Path, text: str) -> None:
    """Writes a text file so that it is either the old or the new one."""
    with replacing(file) as partial:
        partial.write_text(text)


def flush(path: Path) -> None:
    """Asks the system to bring a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
