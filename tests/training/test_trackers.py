"""A tracker besides tensorboard, for real and offline."""

import dataclasses
import json
import sqlite3

import pytest

from halfface_pipeline.run_folder.log import read_log
from halfface_pipeline.training.loop import train

pytestmark = pytest.mark.slow


def test_trackio_gets_the_log(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason="trackio is not installed")
    output = dataclasses.replace(tiny_config.output, tracker="trackio")
    run = train(dataclasses.replace(tiny_config, output=output))
    with sqlite3.connect(tmp_path / "trackio" / "run.db") as database:
        tracked = [(step, json.loads(line)) for step, line in database.execute("select step, metrics from metrics")]
    log = read_log(run / "log.jsonl")
    assert [(step, line["loss"]) for step, line in tracked] == [(line["step"], line["loss"]) for line in log]
