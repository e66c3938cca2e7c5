"""What experiments write, and the spikes they count."""

import csv
import json

import PIL.Image
import pytest

from halfface_pipeline.config.files import to_yaml
from halfface_pipeline.experiments.results import Result, as_markdown, write_result
from halfface_pipeline.experiments.training_curves import spikes, training_curves
from halfface_pipeline.inference.png_metadata import SOFTWARE


def test_files_of_a_result(tmp_path):
    rows = [{"step_size": 40, "residual_noise": 0.08612345}, {"step_size": "exact", "residual_noise": None}]
    result = Result(
        PIL.Image.new("RGB", (3, 2), "red"),
        rows,
        {"seed": 7},
        {"residual_noise": "in pixel values"},
        {"steps": [{"beta": 0.1}]},
    )
    files = write_result(tmp_path / "new" / "folder", "step-size", result)
    assert [file.name for file in files] == [
        "step_size.png",
        "step_size.csv",
        "step_size.md",
        "step_size.json",
        "step_size_steps.csv",
    ]
    assert PIL.Image.open(files[0]).size == (3, 2)
    with files[1].open() as opened:
        assert list(csv.DictReader(opened)) == [
            {"step_size": "40", "residual_noise": "0.08612345"},
            {"step_size": "exact", "residual_noise": ""},
        ]
    assert "| 40 | 0.08612 |" in files[2].read_text()
    assert "residual noise: in pixel values" in as_markdown("step-size", result)
    whole = json.loads(files[3].read_text())
    assert whole["rows"] == rows and whole["settings"] == {"seed": 7} and whole["steps"] == [{"beta": 0.1}]
    assert set(whole["versions"]) >= {"python", "torch", "diffusers"}


def test_only_sheets_of_completions_are_labelled(tmp_path):
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    settings = {"model": [str(tmp_path / "runs" / "demo"), "someone/other"], "data": "procedural", "seed": 7}
    result = Result(PIL.Image.new("RGB", (3, 2)), [{"a": 1}], settings)
    with PIL.Image.open(write_result(tmp_path, "samplers", result)[0]) as picture:
        told = picture.text
    assert (told["Comment"], told["seed"]) == ("AI-generated, hidden half invented", "7")
    assert told["model"] == "demo, someone/other"
    with PIL.Image.open(write_result(tmp_path, "forward", result)[0]) as picture:
        assert picture.text == SOFTWARE


def test_spikes_after_a_restart_are_separate():
    log = [{"loss": 1.0, "lr": 1.0 - (i % 40) / 40} for i in range(120)]
    log[41]["loss"], log[70]["loss"], log[71]["loss"] = 4.0, 2.0, 1.4
    assert spikes(log) == {
        "spikes": 2,
        "largest_ratio": 4.0,
        "restarts": 2,
        "largest_ratio_after_restart": 4.0,
        "largest_ratio_elsewhere": 2.0,
    }
    flat = spikes([{"loss": 1.0, "lr": 1.0}] * 30)
    assert flat["restarts"] == 0 and flat["largest_ratio_after_restart"] is None and flat["spikes"] == 0


def test_runs_are_drawn_side_by_side(tiny_config, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(to_yaml(tiny_config))
        lines = [{"step": i, "epoch": i / 6, "loss": 2.0 / i, "lr": 1e-3} for i in range(1, 31)]
        (tmp_path / name / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = training_curves([tmp_path / "one", tmp_path / "two"])
    assert [row["run"] for row in result.rows] == ["one", "two"]
    row = result.rows[0]
    assert (row["steps"], row["epochs"], row["batch_size"], row["peak_lr"]) == (30, 5.0, 4, tiny_config.optimizer.lr)
    assert row["final_loss"] == pytest.approx(sum(2.0 / i for i in range(11, 31)) / 20)
    assert len(result.picture.axes) == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"it must be a run folder with config\.yaml and more than 20 lines"):
        training_curves([tmp_path / "empty"])
