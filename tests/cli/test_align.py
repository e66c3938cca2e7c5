"""`halfface align`: where the eyes lie in what it writes, and which photos are left out."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from halfface_pipeline.cli.main import main
from halfface_pipeline.photo.faces import find_faces

SELFIE = Path(__file__).parents[1] / "photo" / "selfie.jpg"


@pytest.fixture
def photos(tmp_path):
    """A folder of a photo, the same one turned and reduced, one without a face and one that cuts the face."""
    folder, photo = tmp_path / "photos", PIL.Image.open(SELFIE).convert("RGB")
    folder.mkdir()
    photo.save(folder / "me.png")
    turned = photo.rotate(20, PIL.Image.Resampling.BICUBIC, expand=True)
    turned.resize((turned.width * 3 // 4, turned.height * 3 // 4)).save(folder / "turned.png")
    PIL.Image.new("RGB", (200, 300), "grey").save(folder / "wall.png")
    photo.crop((130, 150, 424, 330)).save(folder / "cut.png")
    return folder


def align(*arguments):
    return main(["align", *map(str, arguments)])


@pytest.mark.parametrize("eyes", [None, "0.35,0.45,0.65,0.45"])
def test_the_eyes_lie_where_they_were_asked_for(photos, tmp_path, capsys, eyes):
    out = tmp_path / "out"
    options = ["--size", "224x176", "--eyes", eyes] if eyes else []
    assert align(photos, "--out", out, *options) == 0
    written = sorted(file.name for file in out.iterdir())
    assert written == ["me.png", "turned.png"]
    printed = capsys.readouterr()
    assert "no face was found" in printed.err and "of the frame lies outside of it" in printed.err
    assert f"2 of 4 faces in {out}" in printed.out and ("--data.eyes '[0.35," in printed.out) == bool(eyes)
    x, y = ((0.35, 0.65), 0.45) if eyes else ((69.5 / 178, 108.5 / 178), 111.5 / 218)
    for name in written:
        picture = PIL.Image.open(out / name)
        assert picture.size == ((176, 224) if eyes else (178, 218))
        found = find_faces(picture)[0].eyes / picture.size
        expected = np.array([[x[0], y], [x[1], y]])
        assert np.abs(found - expected).max() < 0.05 * (x[1] - x[0]), name


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--eyes", "0.6,0.5,0.4,0.5"], "--eyes is '0.6,0.5,0.4,0.5'; it must be X,Y,X,Y between 0 and 1"),
        (["--eyes", "1,2,x"], "--eyes is '1,2,x'"),
        (["--size", "9"], "--size is '9'; it must be HEIGHTxWIDTH"),
    ],
)
def test_wrong_settings_end_in_one_line(photos, tmp_path, capsys, options, reason):
    assert align(photos, "--out", tmp_path / "out", *options) == 2
    assert reason in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_two_photos_of_one_name_and_foreign_files_are_refused(photos, tmp_path, capsys):
    again = tmp_path / "more" / "me.png"
    again.parent.mkdir()
    PIL.Image.open(SELFIE).save(again)
    assert align(photos, again, "--out", tmp_path / "out") == 2
    assert "several files for me.png" in capsys.readouterr().err
    assert align(photos / "wall.png", "--out", tmp_path / "out") == 2
    assert "no face could be cut out of 1 photos" in capsys.readouterr().err
    assert align(again, "--out", again.parent) == 2
    assert f"it would overwrite {again}" in capsys.readouterr().err


def test_a_folder_is_aligned_into_itself_twice(tmp_path):
    PIL.Image.open(SELFIE).save(tmp_path / "me.jpg")
    assert [align(tmp_path, "--out", tmp_path) for _ in range(2)] == [0, 0]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["me.jpg", "me.png"]
