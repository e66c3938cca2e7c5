"""A page of `halfface export` around a tiny random model, and a browser that shows it."""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from halfface_pipeline import HalfFaceInpaintPipeline
from halfface_pipeline.config.schema import ModelConfig, NoiseConfig
from halfface_pipeline.diffusion.networks import build_network
from halfface_pipeline.diffusion.samplers import training_scheduler

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


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
def pipe():
    """A tiny random model whose halves lie beside each other, so that orientation matters."""
    torch.manual_seed(0)
    model = ModelConfig(
        hidden_half="left",
        known_layout="stacked",
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=8,
    )
    network = build_network(model, 22, 20).eval()
    scheduler = training_scheduler(NoiseConfig(), "v_prediction")
    pipe = HalfFaceInpaintPipeline(network, scheduler, 22, 20, "left", "stacked")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def page_folder(pipe, tmp_path_factory):
    """The folder of the page; skipped where its runtime cannot be had."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: the extra `export` brings it")
    from halfface_pipeline.export.onnxruntime_web import download
    from halfface_pipeline.export.page import export_page

    try:
        download()
    except ValueError as error:
        pytest.skip(f"onnxruntime-web cannot be had: {error}")
    folder = tmp_path_factory.mktemp("page")
    export_page(pipe, "tiny", folder, num_inference_steps=4)
    return folder


@pytest.fixture(scope="module")
def open_browser():
    """Opens Debian's Chromium, driven by Playwright, with more arguments; skips where either is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: extra `browser`")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed; $CHROMIUM can say where it is")
    opened = []
    with playwright.sync_playwright() as driver:

        def launch(*arguments):
            opened.append(driver.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *arguments]))
            return opened[-1]

        yield launch
        for browser in opened:
            browser.close()


@pytest.fixture(scope="module")
def browser(open_browser):
    """One browser for the tests of a module."""
    return open_browser()


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
