"""Handlers of the page: `halfface_pipeline.app.handlers`, called as gradio calls them."""

import logging
import shutil
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch

from halfface_pipeline.app.crop import frame
from halfface_pipeline.cli.main import main
from halfface_pipeline.photo.frame import frame_eyes

gr = pytest.importorskip("gradio", reason="the extra `app` is not installed")


def last(moments, folder):
    """The final outputs, copied as gradio copies them: faces, original, zip, status."""
    for outputs in moments:
        final = outputs
        for output in outputs:
            for file in output if isinstance(output, list) else [output]:
                if isinstance(file, str) and file.startswith("/"):
                    shutil.copy(file, folder)
    faces, original, archive, status = final
    return (
        [folder / Path(face).name for face in faces],
        folder / Path(original).name,
        folder / Path(archive).name,
        status,
    )


def test_redraw_reproduces_every_completion(handlers, photo, tmp_path, capsys):
    moments = handlers.complete({"path": str(photo)}, 1.5, 0.2, -0.3, "dpm++", 3, 40, 3)
    files, original, archive, status = last(moments, tmp_path)
    assert "3 of 3 completions" in status
    for number, file in enumerate(files):
        with PIL.Image.open(file) as face:
            told = face.text
            assert told["Comment"] == "AI-generated, hidden half invented"
            assert (told["model"], told["sampler"], told["steps"]) == ("tiny", "dpm++", "3")
            assert told["seed"] == str(40 + number)
            assert np.array_equal(np.array(face)[:10], np.array(PIL.Image.open(original))[:10])
    handlers.pipe.save_pretrained(tmp_path / "model")
    words = ["redraw", *map(str, files), "--model", str(tmp_path / "model"), "--out", str(tmp_path / "again")]
    assert main(words) == 0
    assert capsys.readouterr().out.count("the same pixels") == 3
    for file in files:
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
    with zipfile.ZipFile(archive) as zipped:
        assert zipped.namelist() == [f"halfface-seed-{seed}.png" for seed in (40, 41, 42)]
        assert zipped.read("halfface-seed-41.png") == files[1].read_bytes()


def test_page_and_command_complete_alike(handlers, tmp_path):
    given = tmp_path / "given.png"
    PIL.Image.effect_noise((16, 20), 90).convert("RGB").save(given)
    face = PIL.Image.open(last(handlers.complete({"path": str(given)}, 1, 0, 0, "ddim", 2, 9, 1), tmp_path)[0][0])
    handlers.pipe.save_pretrained(tmp_path / "model")
    words = f"-n 1 --scheduler ddim --steps 2 --seed 9 --speed safe --model {tmp_path / 'model'}".split()
    assert main(["complete", str(given), *words, "--out", str(tmp_path / "out")]) == 0
    with PIL.Image.open(tmp_path / "out" / "given-1.png") as other:
        assert np.array_equal(face, other)


def test_what_is_framed_is_completed(handlers, tmp_path):
    picture = PIL.Image.new("RGB", (160, 200), "red")
    picture.paste("lime", (80, 0, 160, 100))
    picture.save(tmp_path / "p.png")
    original = last(handlers.complete({"path": str(tmp_path / "p.png")}, 2, 1, -1, "ddpm", 1, 0, 1), tmp_path)[1]
    assert (np.array(PIL.Image.open(original)) == (0, 255, 0)).all()


def test_a_stopped_request_leaves_no_file(handlers, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "place"))
    (tmp_path / "place").mkdir()
    scheduler = handlers.pipe.scheduler
    moments = handlers.complete({"path": str(photo)}, steps=2, completions=3)
    next(moments), next(moments)
    assert len(list((tmp_path / "place").rglob("*.png"))) == 2
    moments.close()
    assert list((tmp_path / "place").iterdir()) == []
    assert handlers.pipe.scheduler is scheduler


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"photo": None}, "There is no photo yet"),
        ({"photo": {"path": "/nowhere/at/all.png"}}, "has been deleted"),
        ({"steps": 0}, "Steps is 0; it must be a whole number from 1 to 250"),
        ({"steps": "many"}, "Steps is many"),
        ({"steps": 2.5}, "Steps is 2.5"),
        ({"seed": -1}, "Seed is -1"),
        ({"seed": None}, "Seed is None"),
        ({"completions": 17}, "Completions is 17; it must be a whole number from 1 to 16"),
        ({"completions": True}, "Completions is True"),
        ({"zoom": 11}, "Zoom is 11; it must be from 1 to 10"),
        ({"sampler_name": "magic"}, "scheduler is 'magic'"),
    ],
)
def test_mistakes_are_explained(handlers, photo, changed, message):
    with pytest.raises(gr.Error) as error:
        list(handlers.complete(**{"photo": {"path": str(photo)}, "steps": 2, "completions": 1, **changed}))
    assert message in error.value.message
    assert "/" not in error.value.message


def test_an_unexpected_error_shows_no_path(handlers, photo, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with caplog.at_level(logging.ERROR), pytest.raises(gr.Error) as error:
        list(handlers.complete({"path": str(photo)}, completions=1, steps=1))
    assert error.value.message == "This failed on the server; its log says why."
    assert str(tmp_path / "gone") in caplog.text


def test_a_network_of_nan_is_reported(handlers, photo, tmp_path, capsys):
    with torch.no_grad():
        handlers.pipe.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(gr.Error, match="not finite"):
        list(handlers.complete({"path": str(photo)}, steps=1, completions=1))
    handlers.pipe.save_pretrained(tmp_path / "model")
    words = ["--crop", "centre", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    assert main(["complete", str(photo), *words]) == 2
    assert "not finite" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_the_frame_is_shown_for_photos_only(handlers, photo, tmp_path):
    shown, given, column = handlers.show_frame({"path": str(photo)}, 1, 0, 0)
    assert shown.size == (240, 200) and column.visible
    assert handlers.show_frame(None, 1, 0, 0)[2].visible is False
    (tmp_path / "page.png").write_text("<html>")
    shown, given, column = handlers.show_frame({"path": str(tmp_path / "page.png")}, 1, 0, 0)
    assert shown is given is None and not column.visible


def test_the_frame_starts_around_the_face(handlers, tmp_path):
    scene = PIL.Image.new("RGB", (1000, 900), "grey")
    scene.paste(PIL.Image.open(Path(__file__).parents[1] / "photo" / "selfie.jpg"), (300, 200))
    scene.save(tmp_path / "selfie.png")
    preview, _, column, zoom, across, down = handlers.first_frame({"path": str(tmp_path / "selfie.png")})
    assert column.visible and preview.size == (560, 504)
    left, top, right, _ = frame(scene.size, (20, 16), zoom, across, down)
    eyes = frame_eyes(handlers.pipe.config) * (right - left) / 16 + (left, top)
    assert np.abs(eyes.mean(0) - (517, 396)).max() < 8  # between the irises
    assert np.ptp(eyes[:, 0]) == pytest.approx(82.5, rel=0.05)
    PIL.Image.new("RGB", (200, 300), "grey").save(tmp_path / "wall.png")
    assert handlers.first_frame({"path": str(tmp_path / "wall.png")})[3:] == (1, 0, 0)
    assert handlers.first_frame(None)[3:] == (1, 0, 0)


def test_a_tap_moves_the_cut_line(handlers, photo):
    across, down = handlers.centre_frame({"path": str(photo)}, 2.5, SimpleNamespace(index=[120, 100]))
    assert (across, down) == (0, 0)
    assert handlers.centre_frame({"path": str(photo)}, 2.5, SimpleNamespace(index=[239, 0])) == (1, -1)


def test_the_first_completion_is_large_at_first(handlers):
    faces = [{"image": {"path": name}} for name in ("a.png", "b.png")]
    assert handlers.enlarge_first(faces, None) == "a.png"
    assert handlers.enlarge_first(faces, {"path": "b.png"}) == handlers.enlarge_first([], None) == gr.skip()
    assert handlers.enlarge(faces, SimpleNamespace(index=1)) == "b.png"


def test_only_usable_samplers_are_offered(tiny_pipeline, handlers):
    assert handlers.samplers[:3] == ["ddpm", "ddim", "dpm++"] and "euler-a" in handlers.samplers
    of_images = type(handlers)(tiny_pipeline(prediction_type="sample"), "tiny")
    assert "euler-a" not in of_images.samplers and "dpm++" in of_images.samplers
