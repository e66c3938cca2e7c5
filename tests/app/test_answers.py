"""What the page answers: `halfface_pipeline.app.answers`, called as gradio calls it."""

import logging
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from halfface_pipeline.cli.main import main

gr = pytest.importorskip("gradio", reason="the extra `app` is not installed")


def last(moments):
    """Every output as it stands at the end."""
    state = None
    for moment in moments:
        state = [old if isinstance(new, dict) else new for old, new in zip(state or moment, moment, strict=True)]
    return state


def test_every_completion_can_be_drawn_again_from_its_png_alone(answers, photo, tmp_path, capsys):
    files, original, archive, status = last(answers.complete({"path": str(photo)}, 1.5, 0.2, -0.3, "dpm++", 3, 40, 3))
    assert "3 of 3 completions" in status
    for number, file in enumerate(files):
        with PIL.Image.open(file) as face:
            told = face.text
            assert told["Comment"] == "AI-generated, hidden half invented"
            assert (told["model"], told["sampler"], told["steps"]) == ("tiny", "dpm++", "3")
            assert told["seed"] == str(40 + number)
            assert np.array_equal(np.array(face)[:10], np.array(PIL.Image.open(original))[:10])
    answers.pipe.save_pretrained(tmp_path / "model")
    assert main(["redraw", *files, "--model", str(tmp_path / "model"), "--out", str(tmp_path / "again")]) == 0
    assert capsys.readouterr().out.count("the same pixels") == 3
    for file in files:
        assert (tmp_path / "again" / Path(file).name).read_bytes() == Path(file).read_bytes()
    with zipfile.ZipFile(archive) as zipped:
        assert zipped.namelist() == [f"halfface-seed-{seed}.png" for seed in (40, 41, 42)]
        with zipped.open("halfface-seed-41.png") as inside:
            assert inside.read() == Path(files[1]).read_bytes()


def test_the_command_line_draws_the_same_first_completion(answers, tmp_path):
    given = tmp_path / "given.png"
    PIL.Image.effect_noise((16, 20), 90).convert("RGB").save(given)
    face = PIL.Image.open(last(answers.complete({"path": str(given)}, 1, 0, 0, "ddim", 2, 9, 1))[0][0])
    answers.pipe.save_pretrained(tmp_path / "model")
    words = f"-n 1 --scheduler ddim --steps 2 --seed 9 --speed safe --model {tmp_path / 'model'}".split()
    assert main(["complete", str(given), *words, "--out", str(tmp_path / "out")]) == 0
    with PIL.Image.open(tmp_path / "out" / "given-1.png") as other:
        assert np.array_equal(face, other)


def test_what_is_framed_is_what_is_completed(answers, tmp_path):
    picture = PIL.Image.new("RGB", (160, 200), "red")
    picture.paste("lime", (80, 0, 160, 100))
    picture.save(tmp_path / "p.png")
    upload = {"path": str(tmp_path / "p.png")}
    original = last(answers.complete(upload, 2, 1, -1, "ddpm", 1, 0, 1))[1]
    assert (np.array(PIL.Image.open(original)) == (0, 255, 0)).all()
    assert list(tmp_path.iterdir()) == [tmp_path / "p.png"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"photo": None}, "There is no photo yet"),
        ({"photo": {"path": "/nowhere/at/all.png"}}, "no longer kept"),
        ({"steps": 0}, "Steps is 0; it must be a whole number from 1 to 250"),
        ({"steps": "many"}, "Steps is many"),
        ({"steps": 2.5}, "Steps is 2.5"),
        ({"seed": -1}, "Seed is -1"),
        ({"seed": None}, "Seed is None"),
        ({"completions": 17}, "Completions is 17; it must be a whole number from 1 to 16"),
        ({"completions": True}, "Completions is True"),
        ({"zoom": 6}, "Zoom is 6; it must be from 1 to 5"),
        ({"sampler_name": "magic"}, "scheduler is 'magic'"),
        ({"sampler_name": "ddim", "steps": 3}, "DDIMScheduler needs a divisor of 1000"),
    ],
)
def test_what_cannot_be_done_is_said(answers, photo, changed, message):
    with pytest.raises(gr.Error) as error:
        list(answers.complete(**{"photo": {"path": str(photo)}, "steps": 2, "completions": 1, **changed}))
    assert message in error.value.message
    assert "/" not in error.value.message


def test_an_error_nobody_thought_of_goes_to_the_log_and_names_no_path(answers, photo, kept, caplog):
    kept.rmdir()
    with caplog.at_level(logging.ERROR), pytest.raises(gr.Error) as error:
        list(answers.complete({"path": str(photo)}, completions=1, steps=1))
    assert error.value.message == "This failed on the server; its log says why."
    assert str(kept) in caplog.text


def test_the_frame_is_shown_for_a_photo_and_only_for_one(answers, photo, tmp_path):
    shown, given, column = answers.show_frame({"path": str(photo)}, 1, 0, 0)
    assert shown.size == (240, 200) and column.visible
    assert answers.show_frame(None, 1, 0, 0)[2].visible is False
    (tmp_path / "page.png").write_text("<html>")
    shown, given, column = answers.show_frame({"path": str(tmp_path / "page.png")}, 1, 0, 0)
    assert shown is given is None and not column.visible


def test_a_tap_puts_the_cut_line_there(answers, photo):
    across, down = answers.centre_frame({"path": str(photo)}, 2.5, SimpleNamespace(index=[120, 100]))
    assert (across, down) == (0, 0)
    assert answers.centre_frame({"path": str(photo)}, 2.5, SimpleNamespace(index=[239, 0])) == (1, -1)


def test_the_first_completion_is_large_until_another_is_chosen(answers):
    faces = [{"image": {"path": name}} for name in ("a.png", "b.png")]
    assert answers.enlarge_first(faces, None) == "a.png"
    assert answers.enlarge_first(faces, {"path": "b.png"}) == answers.enlarge_first([], None) == gr.skip()
    assert answers.enlarge(faces, SimpleNamespace(index=1)) == "b.png"


def test_samplers_the_model_cannot_use_are_not_offered(tiny_pipeline, answers, kept):
    assert answers.samplers[:3] == ["ddpm", "ddim", "dpm++"] and "euler-a" in answers.samplers
    of_images = type(answers)(tiny_pipeline(prediction_type="sample"), "tiny", kept)
    assert "euler-a" not in of_images.samplers and "dpm++" in of_images.samplers
