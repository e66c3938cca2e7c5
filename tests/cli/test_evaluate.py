"""`halfface evaluate`: what it refuses, and what it leaves alone."""

import json
import os
import shutil

import PIL.Image
import pytest
import torch

from halfface_pipeline.cli.main import main
from halfface_pipeline.config.files import to_yaml
from halfface_pipeline.config.schema import Config, DataConfig
from halfface_pipeline.data.procedural import faces


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture
def model(tiny_pipeline, tmp_path):
    tiny_pipeline(48, 40).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def evaluate(model, out, *words, data="procedural"):
    quick = ["--num-faces", 2, "-n", 2, "--steps", 1, "--features", "pixels", "--out", out]
    return run("evaluate", "--model", model, *(["--data", data] if data else []), *quick, *words)


def test_pictures_trained_on_are_refused(model, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for row, face in enumerate(faces(16, 48, 40)[0]):
        PIL.Image.fromarray(face).save(tmp_path / "photos" / f"{row:03d}.png")
    data = DataConfig("imagefolder", str(tmp_path / "photos"), holdout=0.5, height=48, width=40)
    (model / "config.yaml").write_text(to_yaml(Config(data=data)))
    os.symlink(tmp_path / "photos", tmp_path / "link")
    assert evaluate(model, tmp_path / "own", data=None) == 0
    assert evaluate(model, tmp_path / "through a link", data=tmp_path / "link") == 0
    own, linked = (json.loads((tmp_path / out / "metrics.json").read_text()) for out in ("own", "through a link"))
    assert own["data"] == linked["data"] and own["measures"] == linked["measures"]
    shutil.copytree(tmp_path / "photos", tmp_path / "copy")
    capsys.readouterr()
    assert evaluate(model, tmp_path / "out", "--num-faces", 16, data=tmp_path / "copy") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"halfface evaluate: error: --data is {str(tmp_path / 'copy')!r}; ")
    assert " of 16 faces in it are pictures the model was trained on (" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["metrics.json", "metrics.md", "completions.png", "ranks.png"])
def test_files_of_others_are_not_overwritten(model, tmp_path, capsys, name):
    (tmp_path / "out").mkdir()
    if name.endswith(".png"):
        PIL.Image.new("RGB", (4, 4)).save(tmp_path / "out" / name)
    else:
        (tmp_path / "out" / name).write_text("mine")
    before = (tmp_path / "out" / name).read_bytes()
    assert evaluate(model, tmp_path / "out") == 2
    assert f"it would overwrite {tmp_path / 'out' / name}" in capsys.readouterr().err
    assert (tmp_path / "out" / name).read_bytes() == before and len(list((tmp_path / "out").iterdir())) == 1


def test_its_own_files_are_replaced(model, tmp_path):
    assert evaluate(model, tmp_path / "out") == 0
    first = (tmp_path / "out" / "metrics.json").read_text()
    assert evaluate(model, tmp_path / "out", "--seeds", 2) == 0
    assert (tmp_path / "out" / "metrics.json").read_text() != first
    (tmp_path / "out" / "metrics.json").unlink()  # as a killed evaluation leaves it
    assert evaluate(model, tmp_path / "out") == 0


def test_values_that_are_not_finite_end_in_one_line(tiny_pipeline, tmp_path, capsys):
    pipe = tiny_pipeline(48, 40)
    next(pipe.unet.parameters()).data.fill_(torch.nan)
    pipe.save_pretrained(tmp_path / "model")
    assert evaluate(tmp_path / "model", tmp_path / "out") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("halfface evaluate: error: ") and "not finite" in error
    assert not (tmp_path / "out" / "metrics.json").exists()
