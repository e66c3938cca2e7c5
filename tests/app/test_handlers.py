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

from halfface_pipeline.app.crop import PASTED_SIDE, frame
from halfface_pipeline.cli.main import main
from halfface_pipeline.inference.photos import DRAWN_WARNING
from halfface_pipeline.photo import faces as photo_faces
from halfface_pipeline.photo.frame import frame_eyes

SELFIE = Path(__file__).parents[1] / "photo" / "selfie.jpg"
gr = pytest.importorskip("gradio", reason="the extra `app` is not installed")


def last(moments, folder):
    """The final outputs, copied as gradio copies them: faces, original, zip, status, photos."""
    for outputs in moments:
        final = outputs
        for output in outputs:
            for file in output if isinstance(output, list) else [output]:
                if isinstance(file, str) and file.startswith("/"):
                    shutil.copy(file, folder)
    faces, original, archive, status, photos = final
    return (
        [folder / Path(face).name for face in faces],
        folder / Path(original).name,
        folder / Path(archive).name,
        status,
        [folder / Path(photo).name for photo in photos],
    )


@pytest.fixture
def scene(tmp_path):
    """A photo of two faces; the eyes of the larger one are around (517, 394), 83 pixels apart and turned by -9."""
    picture, selfie = PIL.Image.new("RGB", (1400, 900), "grey"), PIL.Image.open(SELFIE)
    picture.paste(selfie, (300, 200))
    picture.paste(selfie.resize((318, 474)), (900, 300))
    picture.save(tmp_path / "scene.png")
    return {"path": str(tmp_path / "scene.png")}


def test_redraw_reproduces_every_completion(handlers, photo, tmp_path, capsys):
    moments = handlers.complete({"path": str(photo)}, 1.5, 0.2, -0.3, 12, "dpm++", 3, 40, 3)
    files, original, archive, status, photos = last(moments, tmp_path)
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
        assert zipped.namelist() == [
            f"{name}-seed-{seed}.png" for name in ("halfface", "photo") for seed in (40, 41, 42)
        ]
        assert zipped.read("halfface-seed-41.png") == files[1].read_bytes()
        assert zipped.read("photo-seed-41.png") == photos[1].read_bytes()
    assert main(["redraw", str(photos[0]), "--model", str(tmp_path / "model")]) == 2
    assert "a photo with a half pasted in cannot be reproduced" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["noise", "selfie"])
def test_page_and_command_complete_alike(handlers, tmp_path, given):
    file = tmp_path / "given.png"
    picture = PIL.Image.open(SELFIE) if given == "selfie" else PIL.Image.effect_noise((16, 20), 90).convert("RGB")
    picture.save(file)
    outputs = last(handlers.complete({"path": str(file)}, None, None, None, None, "ddim", 2, 9, 1), tmp_path)
    handlers.pipe.save_pretrained(tmp_path / "model")
    words = f"-n 1 --scheduler ddim --steps 2 --seed 9 --speed safe --model {tmp_path / 'model'}".split()
    for own, more in ((outputs[0][0], ["--no-paste"]), (outputs[4][0], [])):
        out = tmp_path / f"out{len(more)}"
        assert main(["complete", str(file), *words, *more, "--out", str(out)]) == 0
        with PIL.Image.open(out / "given-1.png") as theirs, PIL.Image.open(own) as ours:
            assert np.array_equal(theirs, ours)
            assert theirs.text == ours.text | {"model": "model"}


def test_what_is_framed_is_completed(handlers, tmp_path):
    picture = PIL.Image.new("RGB", (160, 200), "red")
    picture.paste("lime", (80, 0, 160, 100))
    picture.save(tmp_path / "p.png")
    given = {"path": str(tmp_path / "p.png")}
    original = last(handlers.complete(given, 4, 0.5, -0.5, 30, "ddpm", 1, 0, 1), tmp_path)[1]
    assert (np.array(PIL.Image.open(original)) == (0, 255, 0)).all()


def test_the_half_is_pasted_into_a_photo_of_bounded_size(handlers, tmp_path):
    PIL.Image.new("RGB", (2000, 3000), "red").save(tmp_path / "p.png")
    outputs = last(handlers.complete({"path": str(tmp_path / "p.png")}, 2, 0, 0.5, 0, "ddpm", 1, 0, 1), tmp_path)
    with PIL.Image.open(outputs[4][0]) as photo:
        pixels = np.array(photo)
    height, width = PASTED_SIDE, round(PASTED_SIDE * 2 / 3)
    assert pixels.shape == (height, width, 3)
    # The frame is half as wide as the photo, and its cut line lies three quarters down.
    changed = (pixels != (255, 0, 0)).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert abs(rows.min() - 0.75 * height) < 0.03 * height
    assert abs(columns.min() - width / 4) < 0.03 * width > abs(columns.max() - 0.75 * width)


def test_a_stopped_request_leaves_no_file(handlers, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "place"))
    (tmp_path / "place").mkdir()
    scheduler = handlers.pipe.scheduler
    moments = handlers.complete({"path": str(photo)}, steps=2, completions=3)
    next(moments), next(moments)
    assert len(list((tmp_path / "place").rglob("*.png"))) == 3
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
        ({"zoom": 16}, "Zoom is 16; it must be from 0.25 to 15"),
        ({"turn": 200}, "Turn in degrees is 200; it must be from -180 to 180"),
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


def only(answers):
    """The one answer of a handler, its frame read as gradio reads it, before the handler goes on."""
    frame, *outputs = next(answers)
    if isinstance(frame, str):
        with PIL.Image.open(frame) as picture:
            frame = picture.copy()
    assert next(answers, None) is None
    return frame, *outputs


def shown_columns(outputs):
    """Which of the columns to choose a photo, of the frame and of the settings are shown."""
    return [column.visible for column in outputs[3:6]]


def test_the_frame_is_shown_for_photos_only(handlers, photo, tmp_path):
    outputs = only(handlers.choose_photo({"path": str(photo)}))
    assert outputs[0].size == (240, 200) and shown_columns(outputs) == [False, True, True]
    assert shown_columns(only(handlers.choose_photo(None))) == [True, False, False]
    (tmp_path / "page.png").write_text("<html>")
    outputs = only(handlers.choose_photo({"path": str(tmp_path / "page.png")}))
    assert outputs[0] is outputs[2] is None and shown_columns(outputs) == [True, False, False]


def test_an_equal_frame_is_not_written_again_while_it_may_be_served(handlers, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    preview = gr.Image(interactive=False)

    def served(answers):
        data = preview.postprocess(next(answers)[0]).model_dump()
        gr.processing_utils.move_files_to_cache(data, preview, postprocess=True)
        answers.close()
        (file,) = (tmp_path / "served").rglob("*.*")
        return file

    given = {"path": str(photo)}
    file = served(handlers.choose_photo(given))
    file.write_bytes(b"as it was")
    assert served(handlers.show_frame(given, None, None, None, None)) == file
    assert file.read_bytes() == b"as it was"


@pytest.mark.parametrize(("number", "middle", "scale", "turn"), [(1, (516, 394), 1, -9), (2, (1062, 446), 0.75, -9)])
def test_the_frame_starts_around_the_face(handlers, scene, number, middle, scale, turn):
    preview, _, _, *_, face, zoom, across, down, turned = only(handlers.choose_photo(scene, number))
    assert preview.size == (560, 360)
    assert face.visible and face.value == number and [value for _, value in face.choices] == [1, 2]
    eyes = frame((1400, 900), (20, 16), zoom, across, down, turned)(frame_eyes(handlers.pipe.config))
    assert np.abs(eyes.mean(0) - middle).max() < 3
    assert np.hypot(*(eyes[1] - eyes[0])) == pytest.approx(83 * scale, rel=0.03)
    assert turned == pytest.approx(turn, abs=1)


def test_the_page_says_what_may_make_completions_bad(handlers, scene, tmp_path):
    def told(answers):
        return only(answers)[1]

    assert told(handlers.choose_photo(scene)) == '<div role="status"></div>'
    assert "The frame holds no face" in told(handlers.show_frame(scene, 3, -0.9, 0.8, 0))
    assert "% of the half that is kept lies outside" in told(handlers.show_frame(scene, 1, -1, 0, 0))
    PIL.Image.open(SELFIE).resize((53, 79)).save(tmp_path / "small.png")
    assert "the face is small" in told(handlers.show_frame({"path": str(tmp_path / "small.png")}, 15, 0, -0.3, 0))
    handlers.pipe.register_to_config(trained_on="procedural")
    assert DRAWN_WARNING[1:] in told(handlers.choose_photo(scene))


@pytest.mark.parametrize("extra", [True, False])
def test_without_a_face_the_frame_is_the_middle_and_a_line_says_so(handlers, tmp_path, monkeypatch, extra):
    if extra:
        PIL.Image.new("RGB", (200, 300), "grey").save(tmp_path / "photo.png")
    else:
        shutil.copy(SELFIE, tmp_path / "photo.png")
        monkeypatch.setattr(photo_faces, "NEEDS", ("no_such_package",))
    _, told, *_, face, zoom, across, down, turn = only(handlers.choose_photo({"path": str(tmp_path / "photo.png")}))
    assert (zoom, across, down, turn) == (1, 0, 0, 0) and not face.visible
    assert ("No face was found" if extra else "without the extra photo") in told and "in the middle" in told


def test_a_tap_moves_the_cut_line(handlers, photo):
    across, down = handlers.centre_frame({"path": str(photo)}, SimpleNamespace(index=[120, 100]))
    assert (across, down) == (0, 0)
    assert handlers.centre_frame({"path": str(photo)}, SimpleNamespace(index=[180, 0])) == [0.5, -1]


def test_the_first_completion_is_large_at_first(handlers):
    faces = [{"image": {"path": name}} for name in ("a.png", "b.png")]
    photos = [{"path": name} for name in ("c.png", "d.png")]
    assert handlers.enlarge_first(faces, photos, None) == ["a.png", "c.png"]
    for nothing in (handlers.enlarge_first(faces, photos, {"path": "b.png"}), handlers.enlarge_first([], [], None)):
        assert nothing == [gr.skip(), gr.skip()]
    assert handlers.enlarge(faces, photos, SimpleNamespace(index=1)) == ["b.png", "d.png"]


def test_only_usable_samplers_are_offered(tiny_pipeline, handlers):
    assert handlers.samplers[:3] == ["ddpm", "ddim", "dpm++"] and "euler-a" in handlers.samplers
    of_images = type(handlers)(tiny_pipeline(prediction_type="sample"), "tiny")
    assert "euler-a" not in of_images.samplers and "dpm++" in of_images.samplers
