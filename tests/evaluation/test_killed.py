"""An evaluation that is killed, not asked to stop, and taken up again by the same command."""

import json
import os
import signal
import time

import pytest
from forked import PROCESSES, ended

from halfface_pipeline.cli.main import main

ALIVE_SECONDS = 240


def words(folder, out):
    settings = ["--num-faces", "8", "-n", "2", "--steps", "25", "--batch-size", "2", "--features", "pixels"]
    return [
        "evaluate",
        "--model",
        str(folder / "model"),
        "--data",
        "procedural",
        *settings,
        "--out",
        str(folder / out),
    ]


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_with_the_samples_it_has(tiny_pipeline, tmp_path):
    tiny_pipeline(48, 40).save_pretrained(tmp_path / "model")
    process = PROCESSES.Process(target=main, args=(words(tmp_path, "killed"),), daemon=True)
    process.start()
    until, kept = time.monotonic() + ALIVE_SECONDS, []
    while len(kept) < 3 and process.is_alive() and time.monotonic() < until:
        time.sleep(0.01)
        kept = sorted((tmp_path / "killed").glob("completions/*/seed*.npz"))
    os.kill(process.pid, signal.SIGKILL)
    assert ended(process) == -signal.SIGKILL
    kept = sorted((tmp_path / "killed").glob("completions/*/seed*.npz"))
    assert 3 <= len(kept) < 8 and not (tmp_path / "killed" / "metrics.json").exists()
    written = [file.stat().st_mtime_ns for file in kept]

    assert main(words(tmp_path, "killed")) == 0
    assert [file.stat().st_mtime_ns for file in kept] == written
    assert len(list((tmp_path / "killed").glob("completions/*/seed*.npz"))) == 8
    assert main(words(tmp_path, "whole")) == 0
    resumed, whole = (json.loads((tmp_path / out / "metrics.json").read_text()) for out in ("killed", "whole"))
    assert {**resumed, "command": []} == {**whole, "command": []}
