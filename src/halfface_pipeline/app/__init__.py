"""The web page of `halfface app`; all but this file needs the extra `app`."""

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..remote_code.pipeline import HalfFaceInpaintPipeline


@contextmanager
def temporary_files() -> Iterator[Path]:
    """A folder for gradio's files, deleted at the end; enter it before gradio, which reads its path, is imported."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    with tempfile.TemporaryDirectory(prefix="halfface-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop("GRADIO_TEMP_DIR")
            os.environ.update({} if before is None else {"GRADIO_TEMP_DIR": before})


def serve(
    pipe: HalfFaceInpaintPipeline,
    name: str,
    host: str | None = None,
    port: int | None = None,
    upload_mb: float = 20,
    terms: str = "",
) -> None:
    """Serves the page until Ctrl-C or SIGTERM, then deletes all its files.

    Args:
        pipe: The model.
        name: The model's name on the page and in the pictures.
        host: Address to listen on; None for GRADIO_SERVER_NAME, or 127.0.0.1.
        port: Port to listen on; None for GRADIO_SERVER_PORT, or the first free one from 7860.
        upload_mb: Largest upload in megabytes.
        terms: The model's licence and what it was trained on, for the page; else that is what its settings say.

    Raises:
        ValueError: If the port is not free.
    """
    ended = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(each, lambda *_: ended.set()) for each in signals]
    try:
        with temporary_files():
            from .page import build_page, launch

            page = build_page(pipe, name, terms)
            try:
                print(f"{launch(page, host, port, upload_mb)} shows the page; Ctrl-C ends it", flush=True)
                ended.wait()
            except OSError:
                raise ValueError(f"--port is {port}; it must be a port that is free") from None
            finally:
                page.close(verbose=False)
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)
