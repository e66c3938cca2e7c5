"""`halfface complete` with a generative prior."""

import numpy as np
import PIL.Image
import pytest

from halfface_pipeline.cli.main import main
from halfface_pipeline.inference.prior import is_prior
from tests.conftest import tiny_prior


@pytest.fixture
def model(tmp_path):
    """A saved tiny prior, 20x16."""
    tiny_prior().save_pretrained(tmp_path / "prior")
    return tmp_path / "prior"


@pytest.fixture
def photo(tmp_path):
    PIL.Image.new("RGB", (32, 40), "red").save(tmp_path / "me.png")
    return tmp_path / "me.png"


def complete(model, photo, *words, out):
    command = ["complete", photo, "--model", model, "-n", 2, "--steps", 2, *words, "--out", out]
    return main([str(word) for word in command])


def pixels(file):
    with PIL.Image.open(file) as image:
        return np.array(image), dict(image.text)


def test_a_half_by_name_and_what_the_png_says(model, photo, tmp_path, capsys):
    out = tmp_path / "out"
    assert complete(model, photo, "--mask", "left", "--method", "pigdm", out=out) == 0
    assert sorted(file.name for file in out.iterdir()) == ["me-1.png", "me-2.png", "me-sheet.png"]
    image, text = pixels(out / "me-1.png")
    assert image.shape == (20, 16, 3) and (image[:, 8:] == (255, 0, 0)).all() and (image[:, :8] != (255, 0, 0)).any()
    said = {name: text[name] for name in ("Comment", "mask", "method", "sampler", "steps", "seed", "evaluations")}
    assert said == {
        "Comment": "AI-generated, hidden part invented",
        "mask": "left",
        "method": "pigdm",
        "sampler": "ddpm",
        "steps": "2",
        "seed": "0",
        "evaluations": "2",
    }
    assert "ddpm, 2 steps, 2 evaluations per completion" in capsys.readouterr().err


def test_a_mask_from_a_file(model, photo, tmp_path):
    mask = np.zeros((40, 32), np.uint8)
    mask[:10, :8] = 255
    PIL.Image.fromarray(mask).save(tmp_path / "mask.png")
    assert complete(model, photo, "--mask", tmp_path / "mask.png", "--method", "replace", out=tmp_path / "out") == 0
    image, _ = pixels(tmp_path / "out" / "me-2.png")
    seen = np.ones((20, 16), bool)
    seen[:5, :4] = False
    assert (image[seen] == (255, 0, 0)).all() and (image[~seen] != (255, 0, 0)).any()


def test_a_model_for_masks_takes_few_steps_and_no_method(photo, tmp_path, capsys):
    tiny_prior(hidden_half="any").save_pretrained(tmp_path / "masked")
    words = ["complete", photo, "--model", tmp_path / "masked", "-n", 1, "--mask", "left"]
    assert main([str(word) for word in (*words, "--out", tmp_path / "out")]) == 0
    image, text = pixels(tmp_path / "out" / "me-1.png")
    assert (image[:, 8:] == (255, 0, 0)).all() and (image[:, :8] != (255, 0, 0)).any()
    assert (text["sampler"], text["steps"], text["method"], text["mask"]) == ("dpm++", "10", "none", "left")
    assert main([str(word) for word in (*words, "--method", "pigdm", "--out", tmp_path / "other")]) == 2
    assert "method is 'pigdm'; the model was trained for masks" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_the_seed_repeats_a_completion(model, photo, tmp_path):
    for out, seed in (("a", 3), ("b", 4), ("c", 5)):
        assert complete(model, photo, "--method", "dps", "--seed", seed, out=tmp_path / out) == 0
    second, first, other = (
        pixels(tmp_path / name)[0].astype(int) for name in ("a/me-2.png", "b/me-1.png", "c/me-1.png")
    )
    assert np.abs(second - first).max() <= 1 < np.abs(first - other).max()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mask", "middle"], "--mask is 'middle'; it must be bottom, right, top, left, or a picture"),
        (["--method", "magic"], "method is 'magic'; it must be one of replace"),
        (["--method", "dps", "--scheduler", "dpm++"], "method 'dps' needs the steps of DDPMScheduler"),
        (["--half"], "--half is for a model of halves"),
    ],
)
def test_bad_options_end_in_one_line(model, photo, tmp_path, capsys, words, message):
    assert complete(model, photo, *words, out=tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_mask_of_another_size_ends_in_one_line(model, photo, tmp_path, capsys):
    PIL.Image.new("L", (30, 30), 255).save(tmp_path / "mask.png")
    assert complete(model, photo, "--mask", tmp_path / "mask.png", out=tmp_path / "out") == 2
    assert "mask is 30x30; it must be 20x16" in capsys.readouterr().err


def test_a_model_of_halves_takes_no_mask(tiny_pipeline, photo, tmp_path, capsys):
    tiny_pipeline().save_pretrained(tmp_path / "halves")
    assert not is_prior(str(tmp_path / "halves"))
    assert complete(tmp_path / "halves", photo, "--mask", "left", out=tmp_path / "out") == 2
    assert "--mask is for a model of model.hidden_half any or all" in capsys.readouterr().err
