"""`halfface export`, called as the shell calls it."""

import json
import sys

import pytest

from halfface_pipeline.cli.main import main


def refused(capsys, *words):
    """The one line that a command ends with."""
    assert main(["export", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_without_the_extra_the_command_says_what_to_install(model, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install 'halfface-pipeline[export]'" in refused(capsys, model, "--onnx", "model.onnx")


def test_wrong_settings_are_refused_in_one_line(model, capsys, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: the extra `export` brings it")
    file, page = str(tmp_path / "model.onnx"), tmp_path / "page"
    assert "--onnx is 'model.pt'; it must be a file that ends in .onnx" in refused(capsys, model, "--onnx", "model.pt")
    assert "steps is 0; it must be from 1 to 1000" in refused(capsys, model, "--onnx", file, "--steps", "0")
    assert "must be a run folder" in refused(capsys, str(tmp_path), "--onnx", file)
    page.mkdir()
    (page / "index.html").write_text("mine")
    assert "there is another index.html in it" in refused(capsys, model, "--page", str(page))
    assert [entry.name for entry in page.iterdir()] == ["index.html"] and not (tmp_path / "model.onnx").exists()


@pytest.mark.slow
def test_the_network_and_its_plan_are_written(model, capsys, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    file = tmp_path / "new" / "model.onnx"
    assert main(["export", model, "--onnx", str(file), "--weights", "float16", "--steps", "3"]) == 0
    assert "differs from torch by" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["noisy", "known", "timestep"]
    plan = json.loads(file.with_suffix(".json").read_text())
    assert (plan["weights"], plan["hidden_half"], plan["shape"]) == ("float16", "bottom", [3, 10, 16])
    assert len(plan["steps"]) == 3 and plan["relative_error"] < 2e-3
    assert plan["png_text"]["sampler"] == "dpm++"
