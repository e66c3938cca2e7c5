"""`halfface complete`, `redraw` and `faces`: inputs, names of outputs, and what is never overwritten."""

import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from halfface_pipeline.cli.main import main
from halfface_pipeline.inference.png_metadata import read_png, software_mark
from tests.fixtures import AS_IT_IS


def picture(file, colour, size=(32, 40)):
    file.parent.mkdir(exist_ok=True, parents=True)
    PIL.Image.new("RGB", size, colour).save(file)
    return file


def complete(model, *arguments, out):
    quick = ["-n", 1, "--steps", 1, "--speed", "safe", "--model", model, "--out", out]
    return main([str(word) for word in ["complete", *quick, *arguments]])


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def test_a_foreign_file_is_never_overwritten(model, tmp_path, capsys):
    face = picture(tmp_path / "in" / "face.png", "red")
    for name in ("face-1.png", "face-sheet.png"):
        theirs = picture(tmp_path / "in" / name, "green")
        before = contents(tmp_path / "in")
        assert complete(model, face, *AS_IT_IS, out=tmp_path / "in") == 2
        assert f"it would overwrite {theirs}" in capsys.readouterr().err
        assert contents(tmp_path / "in") == before
        theirs.unlink()
    for _ in range(2):  # its own files it may write again
        assert complete(model, face, *AS_IT_IS, out=tmp_path / "in") == 0
    assert set(contents(tmp_path / "in")) == {"face.png", "face-1.png", "face-sheet.png"}


def test_photos_of_one_name_are_numbered(model, tmp_path):
    for folder, colour in (("a", "red"), ("b", "blue"), ("a", "red")):
        photo = picture(tmp_path / folder / "me.png", colour)
        assert complete(model, photo, *AS_IT_IS, out=tmp_path / "out") == 0
    assert set(contents(tmp_path / "out")) == {"me-1.png", "me-sheet.png", "me_2-1.png", "me_2-sheet.png"}
    for name, colour in (("me-1.png", (255, 0, 0)), ("me_2-1.png", (0, 0, 255))):
        assert (np.array(PIL.Image.open(tmp_path / "out" / name))[:10] == colour).all()


def test_faces_of_a_command_are_photos_and_completions_are_not(model, tmp_path, capsys):
    there = tmp_path / "in"
    there.mkdir()
    PIL.Image.new("RGB", (16, 20), "red").save(there / "cut.png", pnginfo=software_mark())  # as by `halfface align`
    for _ in range(2):
        assert complete(model, there, *AS_IT_IS, out=there) == 0
        assert set(contents(there)) == {"cut.png", "cut-1.png", "cut-sheet.png"}
    (there / "cut.png").unlink()
    assert complete(model, there, *AS_IT_IS, out=tmp_path / "out") == 2
    assert "the folder holds no photo but 2 that halfface wrote" in capsys.readouterr().err


def test_a_folder_is_completed_despite_bad_files(model, tmp_path, capsys):
    for name in ("a.png", "c.jpg"):
        picture(tmp_path / "in" / name, "red")
    (tmp_path / "in" / "b.png").write_text("no picture")
    (tmp_path / "in" / "notes.txt").write_text("no picture either")
    assert complete(model, tmp_path / "in", *AS_IT_IS, out=tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "skipped: PHOTO is" in error and "b.png" in error
    assert error.splitlines()[-1] == "halfface complete: error: 1 of 3 photos were not completed, see above"
    assert {"a-1.png", "c-1.png"} <= set(contents(tmp_path / "out")) and len(contents(tmp_path / "out")) == 4
    assert complete(model, tmp_path / "out", *AS_IT_IS, out=tmp_path / "again") == 2  # completions are no photos
    assert "the folder holds no photo" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "flags", "status"),
    [
        ((32, 20), [], 2),
        ((33, 20), ["--crop", "centre"], 0),  # a landscape photo
        ((32, 20), ["--crop", "0,0,20,20"], 0),
        ((32, 40), ["--half"], 2),
        ((34, 20), ["--half"], 0),
    ],
)
def test_halves_and_whole_faces_are_told_apart(model, tmp_path, capsys, size, flags, status):
    assert complete(model, picture(tmp_path / "p.png", "red", size), *flags, out=tmp_path / "out") == status
    assert ("--half, or use --crop" in capsys.readouterr().err) == bool(status)


@pytest.fixture
def selfie(tmp_path):
    """A photo with one face, 424x632."""
    file = tmp_path / "photos" / "me.jpg"
    file.parent.mkdir()
    shutil.copyfile(Path(__file__).parents[1] / "photo" / "selfie.jpg", file)
    return file


def test_the_face_is_found_and_the_half_pasted_back(model, selfie, tmp_path, capsys):
    assert complete(model, selfie, "-n", 2, out=tmp_path / "out") == 0
    assert set(contents(tmp_path / "out")) == {"me-1.png", "me-2.png", "me-sheet.png"}
    photo = np.array(PIL.Image.open(selfie).convert("RGB"))
    one, two = (np.array(PIL.Image.open(tmp_path / "out" / f"me-{number}.png")) for number in (1, 2))
    changed = (one != photo).any(axis=-1)
    assert not changed[:150].any() and not changed[480:].any()  # the irises are at 203 and 190
    assert changed[230:300, 180:260].mean() > 0.9 and (one != two).any()
    assert complete(model, selfie, "-n", 2, out=tmp_path / "out") == 0  # the same photo keeps its name
    assert len(contents(tmp_path / "out")) == 3
    assert main(["redraw", str(tmp_path / "out" / "me-1.png"), "--model", str(model)]) == 2
    assert "--no-paste" in capsys.readouterr().err


def test_the_models_own_picture_can_be_redrawn(model, selfie, tmp_path, capsys):
    assert complete(model, selfie, "--no-paste", out=tmp_path / "out") == 0
    assert PIL.Image.open(tmp_path / "out" / "me-1.png").size == (16, 20)
    assert main(["redraw", str(tmp_path / "out" / "me-1.png"), "--model", str(model)]) == 0
    assert "the same pixels" in capsys.readouterr().out


def test_of_several_faces_the_largest_or_the_one_that_is_named_is_completed(model, selfie, tmp_path, capsys):
    photo = PIL.Image.open(selfie)
    both = PIL.Image.new("RGB", (700, 632), "grey")
    both.paste(photo)
    both.paste(photo.resize((212, 316)), (460, 200))
    both.save(tmp_path / "two.png")
    before, changed = np.array(both), {}
    for face in ("1", "2", "all"):
        assert complete(model, tmp_path / "two.png", "--face", face, out=tmp_path / face) == 0
        assert ("2 faces were found" in capsys.readouterr().err) == (face != "all")
        after = np.array(PIL.Image.open(tmp_path / face / "two-1.png"))
        changed[face] = [bool((after[:, part] != before[:, part]).any()) for part in (slice(424), slice(460, 700))]
    assert changed == {"1": [True, False], "2": [False, True], "all": [True, True]}
    assert complete(model, tmp_path / "two.png", "--face", "all", "--no-paste", out=tmp_path / "own") == 0
    assert set(contents(tmp_path / "own")) == {"two-1.png", "two-sheet.png", "two_2-1.png", "two_2-sheet.png"}
    assert complete(model, tmp_path / "two.png", "--face", "3", out=tmp_path / "three") == 2
    assert "it has 2 faces, and there is no face 3" in capsys.readouterr().err
    assert complete(model, tmp_path / "two.png", "--face", "0", out=tmp_path / "three") == 2
    assert "--face is '0'" in capsys.readouterr().err


def test_the_orientation_of_a_photo_is_followed(model, selfie, tmp_path):
    upright = PIL.Image.open(selfie)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter clockwise
    upright.transpose(PIL.Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    assert complete(model, tmp_path / "turned.png", out=tmp_path / "out") == 0
    assert PIL.Image.open(tmp_path / "out" / "turned-1.png").size == upright.size


def test_a_photo_without_a_face_is_completed_on_request_only(model, tmp_path, capsys):
    wall = picture(tmp_path / "wall.png", "grey", (200, 300))
    assert complete(model, wall, out=tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "wall.png', 200x300; no face was found in it; say where the face is by --crop" in error
    for number, crop in enumerate(("centre", "20,30,120,155")):
        assert complete(model, wall, "--crop", crop, out=tmp_path / crop) == 0
        changed = (np.array(PIL.Image.open(tmp_path / crop / "wall-1.png")) != 128).any(axis=-1)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        left, top, right, bottom = ((0, 25, 200, 275), (20, 30, 120, 155))[number]
        middle = (top + bottom) / 2
        assert middle - 0.15 * (bottom - top) < rows[0] and middle < rows[-1] < bottom
        assert left <= columns[0] < left + 20 and right - 20 < columns[-1] < right
    assert complete(model, wall, "--crop", "0,0,900,900", out=tmp_path / "out") == 2
    assert "it must be inside the photo, which is 200x300" in capsys.readouterr().err


def test_a_picture_of_the_models_size_is_taken_as_it_is(model, tmp_path):
    face = picture(tmp_path / "face.png", "red", (16, 20))
    assert complete(model, face, out=tmp_path / "out") == 0
    assert (np.array(PIL.Image.open(tmp_path / "out" / "face-1.png"))[:10] == (255, 0, 0)).all()


def test_a_model_of_drawn_faces_warns_of_a_photo_and_a_cut_face(tiny_pipeline, selfie, tmp_path, capsys):
    pipe = tiny_pipeline()
    pipe.register_to_config(trained_on="procedural", eyes=[0.3, 0.45, 0.7, 0.45])
    pipe.save_pretrained(tmp_path / "drawn")
    PIL.Image.open(selfie).crop((130, 150, 424, 632)).save(tmp_path / "cut.png")
    assert complete(tmp_path / "drawn", tmp_path / "cut.png", out=tmp_path / "out") == 0
    error = capsys.readouterr().err
    assert "cut.png: the model was trained on drawn faces; in a photo" in error
    assert "of the half that is kept lies outside the photo" in error


def test_without_a_model_the_packaged_one_is_taken(tiny_pipeline, model, selfie, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("halfface_pipeline.inference.load.PACKAGED_FOLDER", tmp_path / "models")
    command = ["complete", str(selfie), "-n", "1", "--steps", "1", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "--model is missing, and no model is installed" in capsys.readouterr().err
    for name in ("drawn", "photo"):
        tiny_pipeline().save_pretrained(tmp_path / "models" / name)
        assert main(command) == 0
        assert f"model {name}: " in capsys.readouterr().err
    assert read_png(tmp_path / "out" / "me-1.png")["model"] == "photo"
    assert main([*command, "--model", "drawn"]) == 0
    assert read_png(tmp_path / "out" / "me-1.png")["model"] == "drawn"


def test_faces_do_not_overwrite_foreign_files(tmp_path, capsys):
    out = tmp_path / "out"
    for _ in range(2):
        assert main(["faces", "2", "--size", "20x16", "--out", str(out)]) == 0
    assert capsys.readouterr().err == ""  # no progress bar without a terminal
    picture(out / "000001.png", "red")
    assert main(["faces", "2", "--size", "20x16", "--out", str(out)]) == 2
    assert f"it would overwrite {out / '000001.png'}" in capsys.readouterr().err
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "metadata.csv").write_text("file_name,age")
    assert main(["faces", "2", "--size", "20x16", "--out", str(tmp_path / "theirs")]) == 2
    assert list(contents(tmp_path / "theirs")) == ["metadata.csv"]
