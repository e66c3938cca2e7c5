"""`halfface app`, called as the shell calls it."""

import contextlib
import importlib.util
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.request

import pytest

from halfface_pipeline.cli.main import main

needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="the extra `app` is not installed"
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-upload", "0"], "--max-upload is 0; it must be more than 0 megabytes"),
        (["--max-upload", "nan"], "--max-upload is nan"),
        (["--host", "1.2.3.4"], "--host is '1.2.3.4'; it must be an address of this machine"),
        (["--port", "70000"], "--port is 70000; it must be from 1 to 65535"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(model, capsys, words, message):
    assert main(["app", "--model", model, *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_without_gradio_the_command_says_what_to_install(model, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app", "--model", model]) == 2
    error = capsys.readouterr().err
    assert "pip install 'halfface-pipeline[app]'" in error and error.count("\n") == 1


@pytest.mark.slow
@needs_gradio
def test_a_port_that_is_taken_is_refused_in_one_line(model, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["app", "--model", model, "--port", str(port)]) == 2
    assert f"--port is {port}; it must be a port that is free" in capsys.readouterr().err


@pytest.mark.slow
@needs_gradio
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_page_ends_when_told_to_and_leaves_nothing_behind(model, tmp_path, monkeypatch, capsys, ending):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "place"))
    (tmp_path / "place").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    seen = []

    def visit():
        for _ in range(200):
            with contextlib.suppress(OSError):
                seen.append(urllib.request.urlopen(f"http://127.0.0.1:{port}").read().decode())
                seen.append(list((tmp_path / "place").iterdir()))
                break
            time.sleep(0.1)
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # or it would end the tests
            os.kill(os.getpid(), ending)

    visitor = threading.Thread(target=visit)
    visitor.start()
    assert main(["app", "--model", model, "--port", str(port)]) == 0
    visitor.join()
    assert capsys.readouterr().out == f"http://127.0.0.1:{port}/ shows the page; Ctrl-C ends it\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert "Half faces" in seen[0] and len(seen[1]) == 1
    assert list((tmp_path / "place").iterdir()) == []
