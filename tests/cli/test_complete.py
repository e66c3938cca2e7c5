"""`halfface complete`, `redraw` and `faces`: inputs, names of outputs, and what is never overwritten."""

import numpy as np
import PIL.Image
import pytest

from halfface_pipeline.cli.main import main
from halfface_pipeline.inference.png_metadata import read_png, save_png


def picture(file, colour, size=(32, 40)):
    file.parent.mkdir(exist_ok=True, parents=True)
    PIL.Image.new("RGB", size, colour).save(file)
    return file


def complete(model, *arguments, out):
    quick = ["-n", 1, "--steps", 1, "--speed", "safe", "--model", model, "--out", out]
    return main([str(word) for word in ["complete", *arguments, *quick]])


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def test_a_foreign_file_is_never_overwritten(model, tmp_path, capsys):
    face = picture(tmp_path / "in" / "face.png", "red")
    for name in ("face-1.png", "face-sheet.png"):
        theirs = picture(tmp_path / "in" / name, "green")
        before = contents(tmp_path / "in")
        assert complete(model, face, out=tmp_path / "in") == 2
        assert f"it would overwrite {theirs}" in capsys.readouterr().err
        assert contents(tmp_path / "in") == before
        theirs.unlink()
    for _ in range(2):  # its own files it may write again
        assert complete(model, face, out=tmp_path / "in") == 0
    assert set(contents(tmp_path / "in")) == {"face.png", "face-1.png", "face-sheet.png"}


def test_photos_of_one_name_are_numbered(model, tmp_path):
    for folder, colour in (("a", "red"), ("b", "blue"), ("a", "red")):
        assert complete(model, picture(tmp_path / folder / "me.png", colour), out=tmp_path / "out") == 0
    assert set(contents(tmp_path / "out")) == {"me-1.png", "me-sheet.png", "me_2-1.png", "me_2-sheet.png"}
    for name, colour in (("me-1.png", (255, 0, 0)), ("me_2-1.png", (0, 0, 255))):
        assert (np.array(PIL.Image.open(tmp_path / "out" / name))[:10] == colour).all()


def test_a_folder_is_completed_despite_bad_files(model, tmp_path, capsys):
    for name in ("a.png", "c.jpg"):
        picture(tmp_path / "in" / name, "red")
    (tmp_path / "in" / "b.png").write_text("no picture")
    (tmp_path / "in" / "notes.txt").write_text("no picture either")
    assert complete(model, tmp_path / "in", out=tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "skipped: PHOTO is" in error and "b.png" in error
    assert error.splitlines()[-1] == "halfface complete: error: 1 of 3 photos were not completed, see above"
    assert {"a-1.png", "c-1.png"} <= set(contents(tmp_path / "out")) and len(contents(tmp_path / "out")) == 4
    assert complete(model, tmp_path / "out", out=tmp_path / "again") == 2  # completions are no photos
    assert "the folder holds no photo" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "flags", "status"),
    [
        ((32, 20), [], 2),
        ((33, 20), [], 0),  # a landscape photo
        ((32, 20), ["--crop", "0,0,20,20"], 0),
        ((32, 40), ["--half"], 2),
        ((34, 20), ["--half"], 0),
    ],
)
def test_halves_and_whole_faces_are_told_apart(model, tmp_path, capsys, size, flags, status):
    assert complete(model, picture(tmp_path / "p.png", "red", size), *flags, out=tmp_path / "out") == status
    assert ("--half, or use --crop" in capsys.readouterr().err) == bool(status)


def test_redraw_bounds_what_a_picture_says(model, tmp_path, capsys):
    complete(model, picture(tmp_path / "me.png", "red"), out=tmp_path / "out")
    facts = {key: value for key, value in read_png(tmp_path / "out" / "me-1.png").items() if key != "Software"}
    comment = facts.pop("Comment")
    with PIL.Image.open(tmp_path / "out" / "me-1.png") as image:
        for key, value in (("batch", 200_000), ("batch", 0), ("seed", 2**63), ("seed", -1), ("steps", 10**9)):
            save_png(image, tmp_path / "forged.png", comment=comment, **{**facts, key: value})
            assert main(["redraw", str(tmp_path / "forged.png"), "--model", str(model)]) == 2
            error = capsys.readouterr().err.splitlines()[-1]
            assert (str(value) in error and "forged.png" in error) or key == "steps"


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
