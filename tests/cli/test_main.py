"""The `halfface` command, called as the shell calls it."""

import csv
import json

import numpy as np
import PIL.Image
import pytest
from diffusers import DDPMPipeline

from halfface_pipeline.cli.main import main
from halfface_pipeline.config.schema import ModelConfig, NoiseConfig
from halfface_pipeline.data.procedural import faces
from halfface_pipeline.diffusion.networks import build_network
from halfface_pipeline.diffusion.samplers import training_scheduler
from tests.fixtures import AS_IT_IS


@pytest.fixture
def photo(tmp_path):
    """A photo twice the model's size, upper half red and lower half blue."""
    picture = PIL.Image.new("RGB", (32, 40), "red")
    picture.paste("blue", (0, 20, 32, 40))
    picture.save(tmp_path / "me.png")
    return str(tmp_path / "me.png")


def run(*words):
    return main([str(word) for word in words])


def test_complete_writes_n_faces_and_a_sheet_and_keeps_the_visible_half(model, photo, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("complete", *AS_IT_IS, photo, "--model", model, "-n", 3, "--steps", 2, "--out", out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["me-1.png", "me-2.png", "me-3.png", "me-sheet.png"]
    face = np.array(PIL.Image.open(out / "me-1.png"))
    assert face.shape == (20, 16, 3)
    assert (face[:6] == (255, 0, 0)).all()
    assert not (face[10:] == (0, 0, 255)).all()
    assert str(out / "me-sheet.png") in capsys.readouterr().out


def test_a_model_of_whole_images_is_evaluated_on_bottom_halves(tmp_path):
    model = ModelConfig(hidden_half="all", block_out_channels=(8,) * 2, norm_num_groups=4, attention_head_dim=8)
    scheduler = training_scheduler(NoiseConfig(), "epsilon")
    DDPMPipeline(build_network(model, 20, 16), scheduler).save_pretrained(tmp_path / "whole")
    words = ["--model", tmp_path / "whole", "--out", tmp_path / "out", "--steps", 11, "--num-training", 8]
    assert run("evaluate", "--data", "procedural", "--num-faces", 4, "-n", 2, *words) == 0
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["model"]["hidden_half"] == "bottom"


def test_halves_and_crops(model, photo, tmp_path):
    half = tmp_path / "half.png"
    PIL.Image.new("RGB", (32, 20), "lime").save(half)
    assert run("complete", half, "--half", "--model", model, "-n", 1, "--steps", 1, "--out", tmp_path / "h") == 0
    assert (np.array(PIL.Image.open(tmp_path / "h" / "half-1.png"))[:10] == (0, 255, 0)).all()
    words = ["complete", *AS_IT_IS, photo, "--model", model, "-n", 1, "--steps", 1, "--out", tmp_path / "c"]
    assert run(*words, "--crop", "0,20,16,40") == 0
    assert (np.array(PIL.Image.open(tmp_path / "c" / "me-1.png"))[:10] == (0, 0, 255)).all()


def test_faces_writes_an_image_folder(tmp_path):
    assert run("faces", 3, "--size", "48x40", "--seed", 5, "--out", tmp_path) == 0
    rows = list(csv.DictReader((tmp_path / "metadata.csv").open()))
    assert [row["file_name"] for row in rows] == ["000000.png", "000001.png", "000002.png"]
    assert {"smile", "long_hair"} <= set(rows[0])
    assert PIL.Image.open(tmp_path / "000002.png").size == (40, 48)
    pixels = faces(3, 48, 40, seed=5)[0]
    assert np.array_equal(np.array(PIL.Image.open(tmp_path / "000002.png")), pixels[2])


def test_out_that_is_a_file_is_refused_before_the_work(model, photo, capsys):
    for words in (
        ["complete", *AS_IT_IS, photo, "--model", model],
        ["faces", 2],
        ["evaluate", "--model", model, "--data", "procedural"],
    ):
        assert run(*words, "--out", photo) == 2
        assert f"--out is {photo!r}" in capsys.readouterr().err


def test_evaluate_on_a_folder_takes_its_held_out_part(tiny_pipeline, tmp_path, capsys):
    tiny_pipeline().save_pretrained(tmp_path / "model")
    for part in ("train", "test"):
        run("faces", 4, "--size", "48x40", "--out", tmp_path / "photos" / part)
    words = ["evaluate", "--model", tmp_path / "model", "--data", tmp_path / "photos", "--out", tmp_path / "out"]
    words += ["--features", "pixels"]
    assert run(*words, "--num-faces", 4, "-n", 2, "--steps", 1) == 0
    printed = capsys.readouterr().out
    assert "seam colour difference" in printed and f"picture: {tmp_path / 'out' / 'completions.png'}" in printed
    assert run(*words, "--num-faces", 5, "-n", 2, "--steps", 1) == 2
    assert "the held-out part has 4" in capsys.readouterr().err


BAD = {
    "-n is 0": ["complete", *AS_IT_IS, "PHOTO", "--model", "MODEL", "-n", 0],
    "num_inference_steps is 1001": ["complete", *AS_IT_IS, "PHOTO", "--model", "MODEL", "--steps", 1001],
    "scheduler is 'edm'": ["complete", *AS_IT_IS, "PHOTO", "--model", "MODEL", "--scheduler", "edm"],
    "PHOTO is": ["complete", "missing.png", "--model", "MODEL"],
    "must be a picture that can be read": ["complete", "TEXT", "--model", "MODEL"],
    "--crop is '1,2'": ["complete", "PHOTO", "--crop", "1,2", "--model", "MODEL"],
    "must be inside": ["complete", "PHOTO", "--crop", "0,0,99,99", "--model", "MODEL"],
    "model_index.json": ["complete", "PHOTO", "--model", "FOLDER"],
    "the folder could not be loaded": ["complete", "PHOTO", "--model", "BROKEN"],
    "could not be loaded from the Hub: Cannot reach": ["complete", "PHOTO", "--model", "nobody/nothing-here"],
    "--size is '48'": ["faces", 1, "--size", "48"],
    "height": ["faces", 1, "--size", "47x40"],
    "each side must be at most 4096": ["faces", 1, "--size", "99999998x40"],
    "the folder holds no photo": ["complete", "FOLDER", "--model", "MODEL"],
    "this is the shape of a whole face": ["complete", "PHOTO", "--half", "--model", "MODEL"],
    "--device is 'cuda:99', which cannot": ["complete", *AS_IT_IS, "PHOTO", "--device", "cuda:99", "--model", "MODEL"],
    "--batch-size is 200000": ["complete", "PHOTO", "--batch-size", 200000, "--model", "MODEL"],
    "--steps is 0": ["evaluate", "--model", "MODEL", "--data", "procedural", "--steps", 0],
    "batch_size is -3": ["evaluate", "--model", "MODEL", "--data", "procedural", "--batch-size", -3],
    "N is 0": ["faces", 0],
    "--data is not given": ["evaluate", "--model", "MODEL"],
    "--data is 'missing-folder'; it must be": ["evaluate", "--model", "MODEL", "--data", "missing-folder"],
    "read is age; probes need training faces": [
        *("evaluate", "--model", "MODEL", "--data", "procedural"),
        *("--read", "age"),
    ],
    "features is 'dinov2', which needs": ["evaluate", "--model", "MODEL", "--data", "FOLDER"],
}


@pytest.mark.parametrize("message", BAD)
def test_mistakes_end_in_one_line_and_write_nothing(model, photo, tmp_path, capsys, message):
    text = tmp_path / "letter.jpg"
    text.write_text("Dear reader")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model_index.json").write_text("{")
    places = {
        "MODEL": model,
        "PHOTO": photo,
        "TEXT": text,
        "FOLDER": tmp_path / "folder",
        "BROKEN": tmp_path / "broken",
    }
    words = [places.get(word, word) for word in BAD[message]]
    assert run(*words, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error
    assert [line for line in error.splitlines() if "error:" in line] == [error.splitlines()[-1]]
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
