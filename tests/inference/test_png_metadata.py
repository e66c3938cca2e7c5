"""What a generated PNG says, and that it is enough to draw the picture again."""

import io
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest
import torch

from halfface_pipeline.cli.main import main
from halfface_pipeline.config.schema import SamplingConfig
from halfface_pipeline.diffusion.samplers import make_sampler
from halfface_pipeline.inference.complete import complete_halves, model_name, reproduce
from halfface_pipeline.inference.png_metadata import AI_GENERATED, WHOLE_GENERATED, fingerprint, read_png, save_png
from halfface_pipeline.inference.speed import use_dtype
from tests.fixtures import AS_IT_IS


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture
def model(tiny_pipeline, tmp_path):
    tiny_pipeline(prediction_type="v_prediction").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def photos(tmp_path):
    """Two photos of noise."""
    files = []
    for name in ("me", "you"):
        pixels = np.random.default_rng(len(files)).integers(0, 256, (40, 32, 3), dtype=np.uint8)
        files.append(tmp_path / f"{name}.png")
        PIL.Image.fromarray(pixels).save(files[-1])
    return files


def test_what_is_written_is_read_back_and_other_programs_see_that_it_is_generated(tmp_path):
    image = PIL.Image.new("RGB", (4, 6), "red")
    save_png(image, tmp_path / "a.png", "someone/modèle 模", "dpm++", 25, 2**63 - 1, batch=8, weights="00ff")
    facts = read_png(tmp_path / "a.png")
    assert facts == {
        "Comment": "AI-generated, hidden half invented",
        "Software": "halfface_pipeline",
        "model": "someone/modèle 模",
        "sampler": "dpm++",
        "steps": 25,
        "seed": 2**63 - 1,
        "batch": 8,
        "weights": "00ff",
        "size": "6x4",
    }
    with PIL.Image.open(tmp_path / "a.png") as opened:
        assert np.array_equal(np.array(opened), np.array(image))
        description = ElementTree.fromstring(opened.text["XML:com.adobe.xmp"])[0][0]
    kind = description.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert kind == "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
    whole = io.BytesIO()
    save_png(image, whole, "m", "ddpm", 1, 0, comment=WHOLE_GENERATED)
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in whole.getvalue() and WHOLE_GENERATED != AI_GENERATED


def test_pictures_that_say_nothing_are_refused(tmp_path):
    PIL.Image.new("RGB", (4, 6)).save(tmp_path / "plain.png")
    with pytest.raises(ValueError, match=r"plain.png'; it must be a PNG of `halfface complete`: model is missing"):
        read_png(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"text.png'; it must be a picture that can be read"):
        read_png(tmp_path / "text.png")
    with pytest.raises(ValueError, match=r"nowhere.png'; it must be a picture that can be read"):
        read_png(tmp_path / "nowhere.png")


@pytest.mark.parametrize(("name", "speed"), [("ddpm", "safe"), ("dpm++", "auto"), ("euler-a", "auto")])
def test_each_completion_is_drawn_again_to_the_same_bytes_from_its_png_alone(
    model, photos, tmp_path, name, speed, capsys
):
    out, again = tmp_path / "out", tmp_path / "again"
    words = ["--model", model, "--scheduler", name, "--steps", 5, "--seed", 7, "--batch-size", 4, "--speed", speed]
    words += ["--out", out]
    assert run("complete", *AS_IT_IS, *photos, "-n", 3, *words) == 0
    # Batches of four and two: the third of `me` and the first of `you` were computed together.
    assert [read_png(out / f"{face}.png")["batch"] for face in ("me-1", "you-1", "you-2")] == [4, 4, 2]
    assert [read_png(out / f"{face}.png")["seed"] for face in ("me-1", "me-3", "you-3")] == [7, 9, 9]
    faces = [out / f"{photo.stem}-{number}.png" for photo in photos for number in (1, 2, 3)]
    assert run("redraw", *faces, "--model", model, "--out", again) == 0
    assert capsys.readouterr().out.count("the same pixels") == 6
    for face in faces:
        assert (again / face.name).read_bytes() == face.read_bytes()


def test_a_seed_draws_one_completion_whatever_it_was_drawn_among(model, photos, tmp_path):
    words = ["--steps", 3, "--speed", "safe", "--model", model, "--out"]
    run("complete", *AS_IT_IS, photos[0], "-n", 4, "--seed", 2, *words, tmp_path / "four")
    run("complete", *AS_IT_IS, photos[0], "-n", 1, "--seed", 4, *words, tmp_path / "one")
    four, one = (np.array(PIL.Image.open(tmp_path / name)).astype(int) for name in ("four/me-3.png", "one/me-1.png"))
    assert np.abs(four - one).max() <= 1
    other = np.array(PIL.Image.open(tmp_path / "four" / "me-2.png")).astype(int)
    assert np.abs(other - one).max() > 1


def test_a_redraw_that_differs_or_cannot_be_ends_in_one_line(model, photos, tmp_path, tiny_pipeline, capsys):
    run("complete", *AS_IT_IS, photos[0], "-n", 1, "--steps", 3, "--model", model, "--out", tmp_path)
    face = tmp_path / "me-1.png"
    told = {key: value for key, value in read_png(face).items() if key not in ("Comment", "Software", "seed")}
    with PIL.Image.open(face) as image:
        save_png(image, tmp_path / "forged.png", **told, seed=5)
    assert run("redraw", tmp_path / "forged.png", "--model", model) == 2
    printed = capsys.readouterr()
    assert "values differ, by up to" in printed.out
    assert printed.err.splitlines()[-1].endswith("1 of 1 differ: other versions, device or number of threads")
    other = tiny_pipeline(prediction_type="v_prediction")
    with torch.no_grad():
        next(other.unet.parameters()).add_(1e-3)
    other.save_pretrained(tmp_path / "other")
    weights = fingerprint(use_dtype(other, told["dtype"]).unet)
    assert run("redraw", face, "--model", tmp_path / "other") == 2
    assert f"was generated by weights {told['weights']}; the model has {weights}" in capsys.readouterr().err
    assert run("redraw", tmp_path / "me-sheet.png", "--model", model) == 2
    assert "the model generates 20x16" in capsys.readouterr().err


def test_nothing_a_picture_says_tells_where_files_lie(model, photos, tmp_path):
    run("complete", *AS_IT_IS, photos[0], "-n", 1, "--steps", 1, "--model", model, "--out", tmp_path / "out")
    for name in ("me-1.png", "me-sheet.png"):
        assert str(tmp_path).encode() not in (tmp_path / "out" / name).read_bytes()
        assert read_png(tmp_path / "out" / name)["model"] == "model"
    (tmp_path / "demo" / "checkpoints" / "step-30").mkdir(parents=True)
    assert model_name(str(tmp_path / "demo" / "checkpoints" / "step-30")) == "demo step-30"
    assert model_name("someone/model") == "someone/model"


def test_completions_carry_what_their_pngs_say(tiny_pipeline):
    pipe = tiny_pipeline()
    pipe.scheduler = make_sampler("dpm++", pipe.scheduler)
    sampling = SamplingConfig("dpm++", num_inference_steps=2, num_completions=3, seed=11)
    drawn = complete_halves(pipe, [PIL.Image.new("RGB", (16, 10))], sampling, 2, "someone/model")
    assert [(each.metadata["seed"], each.metadata["batch"]) for each in drawn] == [(11, 2), (12, 2), (13, 1)]
    batches = []
    pipe.unet.register_forward_pre_hook(lambda network, given: batches.append(len(given[0])))
    for each in drawn:
        assert np.array_equal(np.array(reproduce(pipe, each.image, each.metadata)), np.array(each.image))
    assert batches == [2, 2, 2, 2, 1, 1]  # as they were: rounding depends on the batch


@pytest.mark.parametrize(
    ("key", "value"), [("batch", 200_000), ("batch", 0), ("steps", 10**9), ("seed", 2**63), ("seed", -1)]
)
def test_numbers_out_of_range_are_refused(tmp_path, key, value):
    facts = {"model": "m", "sampler": "ddpm", "steps": 5, "seed": 0, key: value}
    save_png(PIL.Image.new("RGB", (16, 20)), tmp_path / "a.png", **facts)
    with pytest.raises(ValueError, match=rf"a.png'; its {key} is '{value}', allowed is"):
        read_png(tmp_path / "a.png")


@pytest.mark.parametrize("value", ["9" * 5000, "1e3", "", "٣"])
def test_numbers_that_are_none_are_refused(tmp_path, value):
    save_png(PIL.Image.new("RGB", (16, 20)), tmp_path / "a.png", "m", "ddpm", 5, 0, batch=value)
    with pytest.raises(ValueError, match=r"a.png'; its batch is "):
        read_png(tmp_path / "a.png")
