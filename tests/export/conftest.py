"""A page of `halfface export` around a tiny random model, and servers of it."""

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Handler(http.server.SimpleHTTPRequestHandler):
    """A server of files as anybody may have one; it notes what was requested and says nothing."""

    headers_to_send: tuple[tuple[str, str], ...] = ()

    def do_GET(self):
        self.server.requested.append(self.path)
        super().do_GET()

    def end_headers(self):
        for name, value in self.headers_to_send:
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_):
        pass


class IsolatedHandler(Handler):
    """With the headers that let WebAssembly use threads."""

    headers_to_send = (
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Embedder-Policy", "require-corp"),
    )


@contextmanager
def serving(folder: Path, handler=Handler) -> Iterator[http.server.ThreadingHTTPServer]:
    """Serves a folder on this machine; `address` is where, `requested` the paths that were asked for."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    server.requested, server.address = [], f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="session")
def pipe(tiny_pipeline):
    """A tiny random model whose halves lie beside each other, so that orientation matters."""
    return tiny_pipeline(22, 20, "left", "stacked", "v_prediction")


@pytest.fixture(scope="session")
def make_page(tmp_path_factory):
    """Exports the page of a model to a new folder; skipped where its runtime cannot be had."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: the extra `export` brings it")
    from halfface_pipeline.export.onnxruntime_web import download
    from halfface_pipeline.export.page import export_page

    try:
        download()
    except ValueError as error:
        pytest.skip(f"onnxruntime-web cannot be had: {error}")

    def make(pipe, name, num_inference_steps):
        folder = tmp_path_factory.mktemp("page")
        export_page(pipe, name, folder, num_inference_steps=num_inference_steps)
        return folder

    return make


@pytest.fixture(scope="session")
def page_folder(make_page, pipe):
    """The folder of the page."""
    return make_page(pipe, "tiny", 4)


@pytest.fixture
def server(page_folder):
    """A plain server of the page."""
    with serving(page_folder) as server:
        yield server


@pytest.fixture
def isolated_server(page_folder):
    """A server of the page with the headers for threads."""
    with serving(page_folder, IsolatedHandler) as server:
        yield server


@pytest.fixture
def other_server(tmp_path):
    """Another host, which the page must never ask for anything."""
    (tmp_path / "other").mkdir()
    with serving(tmp_path / "other") as server:
        yield server
