"""Where uploads and pictures lie while the page of `halfface app` is up, and how long."""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

KEPT_SECONDS = 1800
SWEEP_SECONDS = 60
EXAMPLES = "examples"
"""Folder whose files stay until the end."""


@contextlib.contextmanager
def nothing_kept() -> Iterator[Path]:
    """A folder for gradio's files, swept every minute and deleted at the end; without it they go to one that stays.

    To be entered before gradio is imported, some of which looks only then.

    Yields:
        Path: The folder.
    """
    before = os.environ.get("GRADIO_TEMP_DIR")
    ended = threading.Event()
    with tempfile.TemporaryDirectory(prefix="halfface-", ignore_cleanup_errors=True) as folder:
        kept = Path(folder).resolve()
        os.environ["GRADIO_TEMP_DIR"] = str(kept)

        def sweep_again_and_again() -> None:
            while not ended.wait(SWEEP_SECONDS):
                sweep(kept, KEPT_SECONDS)

        threading.Thread(target=sweep_again_and_again, name="halfface-sweep", daemon=True).start()
        try:
            yield kept
        finally:
            ended.set()
            del os.environ["GRADIO_TEMP_DIR"]
            if before is not None:
                os.environ["GRADIO_TEMP_DIR"] = before


def sweep(kept: Path, seconds: float) -> None:
    """Deletes what is too old, also what gradio lost track of: uploads cut off, files handed to a visitor who left.

    Args:
        kept: The folder.
        seconds: Age, since it was last changed, from which on a file or an empty folder is too old.
    """
    now = time.time()
    for path in sorted(kept.rglob("*"), reverse=True):  # what is in a folder before the folder
        with contextlib.suppress(OSError):  # somebody else was quicker, or a folder that is not empty
            if path.relative_to(kept).parts[0] == EXAMPLES or now - path.stat().st_mtime < seconds:
                continue
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
