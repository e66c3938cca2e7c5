"""Folders as people keep them: other spellings of splits, system folders, links, metadata that does not quite fit."""

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halfface_pipeline.data.images import overlap
from halfface_pipeline.data.sources import load_source
from halfface_pipeline.remote_code.image_io import read_image
from tests.fixtures import read


@pytest.mark.parametrize(
    ("train", "test"),
    [("Train", "Test"), ("training", "testing"), ("TRAIN", "eval"), ("training_set", "test_set")],
)
def test_split_folders_in_other_spellings(config, pictures, train, test):
    data = config("imagefolder", pictures([f"{train}/a.png", f"{test}/b.png"]))
    assert load_source(data, "train").names == ("a.png",)
    assert load_source(data, "eval").names == ("b.png",)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/a.png", "val/b.png"], r"data\.eval_split is 'test'; .* has \['val'\] beside 'train'"),
        (["valid/a.png", "b.png", "c.png"], r"data\.train_split is 'train'; .* has the folders \['valid'\]"),
        (["seg_train/a.png", "seg_test/b.png"], r"has the folders \['seg_test', 'seg_train'\]"),
        (["archive/train/a.png", "archive/test/b.png"], r"folders named \['test', 'train'\] further inside"),
        (
            ["Train/a.png", "training/b.png"],
            r"data\.train_split is 'train'; it must be one of \['Train', 'training'\]",
        ),
    ],
)
def test_an_unused_split_folder_is_refused(config, pictures, names, message):
    with pytest.raises(ValueError, match=message):
        load_source(config("imagefolder", pictures(names)), "train")


def test_people_named_like_a_split_are_no_split(config, pictures):
    data = config("imagefolder", pictures(["Val_Ackerman/a.png", "Dev_Patel/b.png", "Ann/c.png"]))
    assert len(load_source(data, "train").names) + len(load_source(data, "eval").names) == 3


def test_every_extension_of_pillow_is_read(config, tmp_path):
    folder = tmp_path / "pictures" / "train"
    folder.mkdir(parents=True)
    (tmp_path / "pictures" / "test").mkdir()
    for name, kind in (
        ("a.jfif", "JPEG"),
        ("b.jpe", "JPEG"),
        ("c.JP2", "JPEG2000"),
        ("d.tga", "TGA"),
        ("e.ppm", "PPM"),
    ):
        Image.new("RGB", (20, 20), (90, 100, 200)).save(folder / name, format=kind)
    (folder / "f.heic").write_bytes(b"unknown to Pillow")
    (folder / "labels.h5").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"left out pictures of .*: 1 in \*\.heic$"):
        images = read(config("imagefolder", tmp_path / "pictures"))
    assert images.names == ("a.jfif", "b.jpe", "c.JP2", "d.tga", "e.ppm")
    assert np.abs(images.images.astype(int) - (90, 100, 200)).max() <= 3


def test_system_folders_are_left_out_and_counted(config, pictures):
    system = ["@eaDir/x.jpg", "sub/@eaDir/y.jpg", "#recycle/z.png", "$RECYCLE.BIN/q.png", ".thumbnails/t.png"]
    data = config("imagefolder", pictures(["train/a.png", "test/b.png", *(f"train/{name}" for name in system)]))
    with pytest.warns(UserWarning, match=r"1 in #recycle, 1 in \$RECYCLE\.BIN, 1 in \.thumbnails, 2 in @eaDir"):
        assert load_source(data, "train").names == ("a.png",)


def test_links_to_folders_are_followed_once(config, pictures, tmp_path):
    root = pictures(["train/a.png", "train/b/c.png", "test/d.png"])
    elsewhere = pictures(["e.png"], "elsewhere")
    (root / "train" / "linked").symlink_to(elsewhere)
    (root / "train" / "b" / "circle").symlink_to(root / "train")
    (root / "train" / "again").symlink_to(root / "train" / "b")
    names = load_source(config("imagefolder", root), "train").names
    assert [os.path.basename(name) for name in names] == ["a.png", "c.png", "e.png"]


def test_a_path_with_a_tilde_is_expanded(config, pictures, tmp_path, monkeypatch):
    pictures(["train/a.png", "test/b.png"])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_source(config("imagefolder", "~/pictures"), "train").names == ("a.png",)


# --------------------------------------------------------------------------------------------------------- metadata


def test_metadata_names_are_matched_in_other_spellings(config, pictures):
    accented = unicodedata.normalize("NFD", "zoë.png")
    root = pictures(["train/a.png", "train/sub/b.png", f"train/{accented}", "test/d.png"])
    rows = ["A.PNG,1", "sub\\b.png,2", unicodedata.normalize("NFC", "zoë.png") + ",3"]
    (root / "train" / "metadata.csv").write_text("file_name,age\n" + "\n".join(rows) + "\n")
    images = read(config("imagefolder", root))
    assert dict(zip(images.names, images.attributes["age"], strict=True)) == {"a.png": 1, "sub/b.png": 2, accented: 3}


def test_metadata_of_half_the_pictures_is_taken(config, pictures):
    names = [f"{number:02d}.png" for number in range(40)]
    root = pictures(names)
    (root / "metadata.csv").write_text("file_name,age\n" + "".join(f"{name},{name[:2]}\n" for name in names[:20]))
    # Most seeds hold out a picture without a row, on which alone the file would seem to fit none.
    for seed in range(4):
        data = config("imagefolder", root, holdout=0.01, seed=seed)
        with pytest.warns(UserWarning, match="0 of 20 rows match no picture, 20 of 40 pictures have no row"):
            held_out = read(data, "eval")
        number = int(held_out.names[0][:2])
        np.testing.assert_array_equal(held_out.attributes["age"][0], number if number < 20 else np.nan)


def test_metadata_that_mostly_fits_no_picture_is_refused(config, pictures):
    root = pictures([f"train/{letter}.png" for letter in "abcd"] + ["test/e.png"])
    (root / "train" / "metadata.csv").write_text("file_name,age\na.png,1\nv.png,2\nw.png,3\nx.png,4\n")
    with pytest.raises(ValueError, match="has 4 rows, of which 1 name one of the 4 pictures"):
        read(config("imagefolder", root))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.csv", "file_name,age,age\na.png,1,2\n", "more than one column named 'age'"),
        ("metadata.csv", "file_name,file_name\na.png,a.png\n", "more than one column named 'file_name'"),
        ("metadata.jsonl", '{"file_name": 5, "age": 1}\n', "has a file_name of type int64; it must be text"),
    ],
)
def test_metadata_with_unusable_columns_is_refused(config, pictures, name, text, message):
    root = pictures(["train/a.png", "test/b.png"])
    (root / "train" / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read(config("imagefolder", root))


# ------------------------------------------------------------------------------------------------- pictures and rows


def test_overlap_compares_pixels_not_names(config, pictures):
    root = pictures(["train/a.png", "train/b.png", "train/c.png", "test/d.png"])
    shutil.copy(root / "train" / "b.png", root / "test" / "other.png")
    data = config("imagefolder", root)
    train, held_out = read(data), read(data, "eval")
    assert overlap(held_out, train) == ("other.png",)
    assert overlap(train, held_out) == ("b.png",)
    larger = read(config("imagefolder", root, height=18), "eval")
    with pytest.raises(ValueError, match="of one size"):
        overlap(larger, train)


def test_a_picture_with_broken_exif_is_read(config, tmp_path):
    for name in ("train/a.jpg", "test/b.jpg"):
        place = tmp_path / "pictures" / name
        place.parent.mkdir(parents=True)
        Image.new("RGB", (20, 20), (90, 100, 200)).save(place, exif=b"Exif\x00\x00no TIFF header")
    images = read(config("imagefolder", tmp_path / "pictures"))
    assert np.abs(images.images.astype(int) - (90, 100, 200)).max() <= 3
    with Image.open(tmp_path / "pictures" / "test" / "b.jpg") as half:
        assert read_image(half, (3, 10, 10), "top_half", (20, 10)).shape == (3, 10, 10)


def _table(folder: Path, count: int = 4):
    import datasets

    paths = [str(path) for path in sorted(folder.iterdir())][:count]
    return datasets.Dataset.from_dict({"image": paths, "age": list(range(len(paths)))})


@pytest.mark.parametrize("typed", [False, True])
def test_hub_paths_are_read_again_when_files_change(config, pictures, tmp_path, typed):
    import datasets

    folder = pictures([f"{number}.png" for number in range(4)])
    table = _table(folder)
    if typed:  # the storage type of datasets.Image; saved under that feature, `datasets` would embed the files
        features = datasets.Features({"image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}})
        rows = [{"bytes": None, "path": path} for path in table["image"]]
        table = datasets.Dataset.from_dict({"image": rows}, features=features)
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk(tmp_path / "set")
    data = config("hub", tmp_path / "set")
    before = read(data)
    assert before.images[0, 0, 0].tolist() == [0, 100, 200]
    assert read(data).fingerprint == before.fingerprint
    Image.new("RGB", (20, 20), (250, 0, 0)).save(folder / "0.png")
    assert read(data).images[0, 0, 0].tolist() == [250, 0, 0]


@pytest.mark.parametrize("form", ["numpy", "pandas", "arrow"])
def test_hub_sets_saved_with_a_format_are_read(config, pictures, tmp_path, form):
    table = _table(pictures([f"{number}.png" for number in range(4)]))
    table.with_format(form, columns=["age"]).save_to_disk(tmp_path / "set")
    data = config("hub", tmp_path / "set", holdout=0.01)
    images = read(data)
    np.testing.assert_array_equal(images.images[:, 0, 0, 0], images.attributes["age"])


@pytest.mark.parametrize("kind", ["large_binary", "large_string"])
def test_hub_large_columns_are_read(config, pictures, tmp_path, kind):
    import datasets

    folder = pictures([f"{number}.png" for number in range(4)])
    files = [str(folder / f"{number}.png") for number in range(4)]
    values = [Path(file).read_bytes() for file in files] if kind == "large_binary" else files
    features = datasets.Features({"image": datasets.Value(kind)})
    datasets.Dataset.from_dict({"image": values}, features=features).save_to_disk(tmp_path / "set")
    images = read(config("hub", tmp_path / "set", holdout=0.01))
    assert images.images[:, 0, 0, 0].tolist() == [int(name.split("-")[1]) for name in images.names]


def test_hub_empty_test_split_holds_out_rows(config, pictures, tmp_path):
    import datasets

    table = _table(pictures([f"{number}.png" for number in range(4)]))
    parts = {"train": table, "test": table.select([])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "set")
    data = config("hub", tmp_path / "set")
    assert len(load_source(data, "train").names) + len(load_source(data, "eval").names) == 4
