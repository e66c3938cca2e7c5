"""Which pictures and attributes each source gives, and what it says when it cannot."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from halfface_pipeline.data import procedural
from halfface_pipeline.data.attributes import CELEBA_ATTRIBUTES
from halfface_pipeline.data.sources import load_source
from tests.fixtures import read

NAMES = [f"{number:02d}.png" for number in range(20)]


def reds(images):
    """The number that the fixture `pictures` put in the red channel of each picture."""
    return images.images[:, 0, 0, 0].tolist()


# ------------------------------------------------------------------------------------------------------- procedural


def test_procedural_gives_the_faces_of_its_seed_and_never_the_same_in_both_parts(config):
    data = config("procedural", num_images=300, num_eval_images=3, seed=5)
    train, held_out = read(data), read(data, "eval")
    images, factors = procedural.faces(300, 16, 16, seed=5)
    np.testing.assert_array_equal(train.images, images)
    np.testing.assert_array_equal(held_out.images, procedural.faces(3, 16, 16, seed=5, start=10_000_000)[0])
    assert train.names[299] == "procedural-299" and held_out.names[0] == "procedural-10000000"
    np.testing.assert_allclose(train.attributes["smile"], factors.smile, atol=1e-6)
    np.testing.assert_array_equal(train.attributes["long_hair"], factors.long_hair)
    assert "clothing" not in train.attributes


def test_procedural_has_20000_and_256_images_unless_told(config):
    assert len(load_source(config("procedural"), "train").names) == 20_000
    assert len(load_source(config("procedural"), "eval").names) == 256


def test_procedural_says_what_it_cannot_draw(config):
    with pytest.raises(ValueError, match=r"data\.height is 17; it must be even"):
        load_source(config("procedural", height=17), "train")
    with pytest.raises(ValueError, match=r"data\.num_images is 10000001; it must be at most 10000000"):
        load_source(config("procedural", num_images=10_000_001), "train")


# ------------------------------------------------------------------------------------------------------ imagefolder


@pytest.mark.filterwarnings("ignore:left out pictures")
def test_imagefolder_takes_every_picture_in_order_and_nothing_else(config, pictures):
    names = ["b.PNG", "a/z.webp", "a/b/c.tiff", "d.jpeg", ".hidden.png", ".hidden/e.png", "notes.txt", "g.gif"]
    data = config("imagefolder", pictures(names), holdout=0.001)
    both = [*load_source(data, "train").names, *load_source(data, "eval").names]
    assert sorted(both) == ["a/b/c.tiff", "a/z.webp", "b.PNG", "d.jpeg", "g.gif"]
    assert list(load_source(data, "train").names) == sorted(load_source(data, "train").names)


def test_imagefolder_with_both_folders_holds_nothing_out(config, pictures):
    data = config("imagefolder", pictures(["train/a.png", "train/b.png", "test/c.png", "other/d.png"]))
    train, held_out = read(data), read(data, "eval")
    assert (train.names, reds(train)) == (("a.png", "b.png"), [0, 1])
    assert (held_out.names, reds(held_out)) == (("c.png",), [2])


def test_imagefolder_with_a_training_folder_alone_holds_out_from_it(config, pictures):
    data = config("imagefolder", pictures([f"train/{name}" for name in NAMES] + ["other.png"]), holdout=0.3)
    train, held_out = load_source(data, "train").names, load_source(data, "eval").names
    assert sorted(train + held_out) == NAMES


def test_the_held_out_part_is_stable_disjoint_and_of_the_size_asked_for(config, pictures):
    names = [f"{number}.png" for number in range(400)]
    folder = pictures(names)
    data = config("imagefolder", folder, holdout=0.2)
    train, held_out = set(load_source(data, "train").names), set(load_source(data, "eval").names)
    assert not train & held_out and train | held_out == set(names)
    assert 50 <= len(held_out) <= 110  # 80 expected, 8 a standard deviation
    pictures(["new.png", "0000.png"])
    assert set(load_source(data, "eval").names) - {"new.png", "0000.png"} == held_out
    assert set(load_source(config("imagefolder", folder, holdout=0.2, seed=1), "eval").names) != held_out


@pytest.mark.parametrize("holdout", [0.0001, 0.9999])
def test_at_least_one_image_is_on_each_side(config, pictures, holdout):
    data = config("imagefolder", pictures(["a.png", "b.png", "c.png"]), holdout=holdout)
    assert {len(load_source(data, split).names) for split in ("train", "eval")} == {1, 2}


def test_num_images_takes_the_first_and_not_more_than_there_are(config, pictures):
    folder = pictures(["train/a.png", "train/b.png", "test/c.png"])
    assert load_source(config("imagefolder", folder, num_images=1), "train").names == ("a.png",)
    with pytest.raises(ValueError, match=r"data\.num_images is 3; it must be at most 2"):
        load_source(config("imagefolder", folder, num_images=3), "train")
    with pytest.raises(ValueError, match=r"data\.num_eval_images is 2; it must be at most 1"):
        load_source(config("imagefolder", folder, num_eval_images=2), "eval")


@pytest.mark.parametrize("place", ["folder", "root"])
def test_metadata_is_matched_by_file_name(config, pictures, place):
    root = pictures(["train/a.png", "train/sub/b.png", "train/c.png", "test/d.png"])
    prefix = "train/" if place == "root" else ""
    # Longer than the block that pyarrow reads at once, which it would otherwise end at a line break inside the quotes.
    caption = "two\nlines " * 150_000
    rows = [f'{prefix}sub/b.png,2.5,true,"{caption}"', f"{prefix}a.png,,false,x", f"{prefix}gone.png,7,true,y"]
    text = "file_name,age,glad,caption\n" + "\n".join(rows) + "\n"
    (root / ("train" if place == "folder" else "") / "metadata.csv").write_text(text)
    with pytest.warns(UserWarning, match="metadata.csv: 1 of 3 rows match no picture"):
        images = read(config("imagefolder", root))
    assert images.names == ("a.png", "c.png", "sub/b.png")
    assert list(images.attributes) == ["age", "glad"]
    np.testing.assert_array_equal(images.attributes["age"], np.float32([np.nan, np.nan, 2.5]))
    np.testing.assert_array_equal(images.attributes["glad"], np.float32([0, np.nan, 1]))


def test_metadata_may_be_json_lines_and_columns_may_be_chosen(config, pictures):
    root = pictures(["train/a.png", "train/b.png", "test/d.png"])
    rows = [{"file_name": "b.png", "age": 1, "size": 3}, {"file_name": "a.png", "age": 2, "size": 4}]
    (root / "train" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    images = read(config("imagefolder", root, attribute_columns=("size",)))
    assert {name: values.tolist() for name, values in images.attributes.items()} == {"size": [4, 3]}


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("name,age\na.png,1\n", (), "one must be 'file_name'"),
        ("file_name,age\nz.png,1\n", (), "1 rows, of which 0 name one of the 1 pictures"),
        ("file_name,age\na.png,1,2\n", (), "cannot be read"),
        ("file_name,age\na.png,1\n", ("size",), r"data\.attribute_columns has \['size'\]; .*\['age'\]"),
        ("file_name,age\na.png,old\n", ("age",), r"data\.attribute_columns has 'age'; it holds string, not numbers"),
        (None, ("age",), r"data\.attribute_columns has \['age'\]; it must be among \[\]"),
    ],
)
def test_metadata_that_does_not_fit_is_named(config, pictures, text, columns, message):
    root = pictures(["train/a.png", "test/d.png"])
    if text is not None:
        (root / "train" / "metadata.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(config("imagefolder", root, attribute_columns=columns))


@pytest.mark.parametrize(
    ("place", "changes", "message"),
    [
        ("none", {}, r"data\.path is .*does not exist"),
        ("notes.txt", {}, r"data\.path is .*is a file"),
        ("empty", {}, r"data\.path is .*holds no picture"),
        ("one", {}, r"data\.path is .*needs at least 2, and it has 1"),
        ("odd", {}, r"data\.train_split is 'train'"),
        ("", {"eval_split": "train"}, r"data\.eval_split is 'train'; it must not be data\.train_split"),
    ],
)
def test_folders_that_cannot_be_used_are_named(config, pictures, place, changes, message):
    folder = pictures(["notes.txt", "one/a.png", "odd/test/a.png", "empty/notes.txt"])
    with pytest.raises(ValueError, match=message):
        load_source(config("imagefolder", folder / place, **changes), "train")


# ----------------------------------------------------------------------------------------------------------- celeba


def test_celeba_follows_the_partition_and_gives_attributes_as_0_and_1(config, celeba):
    folder, written = celeba
    data = config("celeba", folder, height=108, width=88)
    train, held_out = read(data), read(data, "eval")
    valid = read(config("celeba", folder, eval_split="val"), "eval")
    assert train.names == tuple(f"{number:06d}.jpg" for number in range(1, 9))
    assert valid.names == tuple(f"{number:06d}.jpg" for number in range(9, 17))
    assert held_out.names == tuple(f"{number:06d}.jpg" for number in range(17, 25))
    assert tuple(train.attributes) == CELEBA_ATTRIBUTES
    found = np.stack(list(held_out.attributes.values()), axis=1)
    np.testing.assert_array_equal(found, (written[16:] + 1) / 2)
    # 218 * 88 / 108 = 177.6: nothing is cut, so the faces are those drawn at that size, but for JPEG and resampling.
    drawn = procedural.faces(8, 108, 88, start=0)[0]
    assert np.abs(train.images.astype(float) - drawn).mean() < 6
    assert np.abs(train.images.astype(float) - drawn[::-1]).mean() > 20


def test_celeba_as_kaggle_packs_it_gives_the_same(config, celeba, tmp_path):
    folder, copy = celeba[0], tmp_path / "kaggle"
    shutil.copytree(folder / "img_align_celeba", copy / "img_align_celeba" / "img_align_celeba")
    parts = (folder / "list_eval_partition.txt").read_text().replace(" ", ",")
    (copy / "list_eval_partition.csv").write_text("image_id,partition\n" + parts)
    lines = (folder / "list_attr_celeba.txt").read_text().splitlines()[1:]
    table = [",".join(line.split()) for line in ["image_id " + lines[0], *lines[1:]]]
    (copy / "list_attr_celeba.csv").write_text("\n".join(table) + "\n")
    choice = ("Young", "Male")
    official = read(config("celeba", folder, attribute_columns=choice), "eval")
    kaggle = read(config("celeba", copy, attribute_columns=choice), "eval")
    np.testing.assert_array_equal(official.images, kaggle.images)
    assert official.names == kaggle.names and list(kaggle.attributes) == ["Young", "Male"]
    for name in choice:
        np.testing.assert_array_equal(official.attributes[name], kaggle.attributes[name])


@pytest.mark.parametrize("gone", ["img_align_celeba", "list_eval_partition.txt", "list_attr_celeba.txt"])
def test_celeba_names_what_is_missing(config, celeba, tmp_path, gone):
    copy = tmp_path / "celeba"
    shutil.copytree(celeba[0], copy)
    (shutil.rmtree if gone == "img_align_celeba" else type(copy).unlink)(copy / gone)
    with pytest.raises(ValueError, match=rf"data\.path is .*it lacks {gone}: the official CelebA folder has"):
        load_source(config("celeba", copy), "train")


def test_celeba_with_damage_says_where(config, celeba, tmp_path):
    copy = tmp_path / "celeba"
    shutil.copytree(celeba[0], copy)
    (copy / "img_align_celeba" / "000002.jpg").unlink()
    with pytest.raises(ValueError, match=r"lacks 1 of the 8 pictures of 'train', 000002\.jpg first"):
        load_source(config("celeba", copy), "train")
    with pytest.warns(UserWarning, match=r"left out 1 of 8 train pictures .*000002\.jpg"):
        images = read(config("celeba", copy, on_bad_image="skip"))
    assert len(images) == len(images.attributes["Young"]) == 7
    np.testing.assert_array_equal(images.attributes["Young"], (np.delete(celeba[1][:8, -1], 1) + 1) / 2)
    lines = (copy / "list_attr_celeba.txt").read_text().splitlines()
    (copy / "list_attr_celeba.txt").write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"has no row for 1 pictures, 000024\.jpg first"):
        read(config("celeba", copy), "eval")
    (copy / "list_attr_celeba.txt").write_text("\n".join([*lines[:-1], "000024.jpg 1 -1"]))
    with pytest.raises(ValueError, match="is not a list of -1 and 1 for 40 attributes"):
        read(config("celeba", copy), "eval")
    (copy / "list_eval_partition.txt").write_text("000001.jpg 1\n")
    with pytest.raises(ValueError, match="lists no picture of 'train'"):
        load_source(config("celeba", copy), "train")


def test_celeba_knows_its_splits(config, celeba):
    with pytest.raises(ValueError, match=r"data\.eval_split is 'dev'; it must be one of train, valid"):
        load_source(config("celeba", celeba[0], eval_split="dev"), "train")
    with pytest.raises(ValueError, match=r"data\.eval_split is 'valid'; it must not be data\.train_split"):
        load_source(config("celeba", celeba[0], train_split="val", eval_split="valid"), "train")


# -------------------------------------------------------------------------------------------------------------- hub


@pytest.fixture
def table(pictures):
    """A data set of 12 pictures whose other columns are of every kind."""
    datasets = pytest.importorskip("datasets")
    folder = pictures([f"{number:02d}.png" for number in range(12)], "hub_pictures")
    columns = {
        "picture": [str(path) for path in sorted(folder.iterdir())],
        "age": [None, *range(1, 12)],
        "glad": [number % 2 == 0 for number in range(12)],
        "box": [[number, number + 0.5] for number in range(12)],
        "attributes": [[(number + place) % 2 for place in range(40)] for number in range(12)],
        "ragged": [[0] * (number % 3) for number in range(12)],
        "caption": ["text"] * 12,
    }
    made = datasets.Dataset.from_dict(columns).cast_column("picture", datasets.Image())
    # Pictures go into the table as bytes, as they do in every data set of the Hub.
    return made.map(lambda row: row, features=made.features, keep_in_memory=True).flatten_indices(keep_in_memory=True)


@pytest.fixture
def hub(table, tmp_path, monkeypatch):
    """The data set in each form that `datasets` reads from a disk."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf_cache")
    for split, rows in (("train", range(8)), ("test", range(8, 12))):
        (tmp_path / "parquet").mkdir(exist_ok=True)
        table.select(rows).to_parquet(tmp_path / "parquet" / f"{split}-00000-of-00001.parquet")
    parts = {"train": table.select(range(8)), "test": table.select(range(8, 12))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    table.save_to_disk(tmp_path / "single")
    return tmp_path


@pytest.mark.parametrize("form", ["parquet", "saved"])
def test_hub_reads_splits_pictures_and_every_column_of_numbers(config, hub, form):
    data = config("hub", hub / form, image_column="picture")
    train, held_out = read(data), read(data, "eval")
    assert reds(train) == list(range(8)) and reds(held_out) == list(range(8, 12))
    assert train.names == tuple(f"train-{row}" for row in range(8)) and held_out.names[0] == "test-0"
    assert list(train.attributes) == ["age", "glad", "box_0", "box_1", *CELEBA_ATTRIBUTES]
    np.testing.assert_array_equal(train.attributes["age"], np.float32([np.nan, *range(1, 8)]))
    np.testing.assert_array_equal(held_out.attributes["glad"], [1, 0, 1, 0])
    np.testing.assert_array_equal(held_out.attributes["box_1"], [8.5, 9.5, 10.5, 11.5])
    np.testing.assert_array_equal(held_out.attributes["Young"], [(row + 39) % 2 for row in range(8, 12)])


def test_hub_without_the_eval_split_holds_out_rows(config, hub):
    data = config("hub", hub / "single", image_column="picture", holdout=0.4, attribute_columns=("age",))
    train, held_out = read(data), read(data, "eval")
    assert sorted(reds(train) + reds(held_out)) == list(range(12)) and 1 <= len(held_out) <= 9
    for images in (train, held_out):
        rows = reds(images)
        assert images.names == tuple(f"train-{row}" for row in rows)
        np.testing.assert_array_equal(images.attributes["age"], np.float32([row or np.nan for row in rows]))
    lacking = config("hub", hub / "parquet", image_column="picture", eval_split="dev")
    assert len(load_source(lacking, "train").names) + len(load_source(lacking, "eval").names) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_column": "image"}, r"data\.image_column is 'image'; .*has the columns \['picture', 'age'"),
        ({"image_column": "box"}, r"data\.image_column is 'box'; it holds .*, not pictures"),
        ({"train_split": "training"}, r"data\.train_split is 'training'; .*has the splits \['test', 'train'\]"),
        (
            {"attribute_columns": ("size",)},
            r"data\.attribute_columns has \['size'\]; it must be among \['age', 'glad'",
        ),
        ({"attribute_columns": ("caption",)}, r"data\.attribute_columns has 'caption'; it holds string, not numbers"),
        ({"attribute_columns": ("ragged",)}, r"data\.attribute_columns has 'ragged'; it holds list"),
    ],
)
def test_hub_names_the_column_or_split_that_is_not_there(config, hub, changes, message):
    with pytest.raises(ValueError, match=message):
        read(config("hub", hub / "saved", **({"image_column": "picture"} | changes)))


def test_hub_row_without_a_picture_is_a_bad_picture(config, table, tmp_path):
    import datasets

    row = {"picture": None} | {name: value for name, value in table[0].items() if name != "picture"}
    empty = datasets.Dataset.from_list([row], features=table.features)
    datasets.concatenate_datasets([table, empty]).save_to_disk(tmp_path / "gap")
    data = config("hub", tmp_path / "gap", image_column="picture", on_bad_image="skip", holdout=0.0001)
    with pytest.warns(UserWarning, match="left out 1 of 12 train pictures .*: train-12: the row holds no picture"):
        assert len(read(data)) == 11


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hub_says_when_a_data_set_cannot_be_had(config, celeba, tmp_path, monkeypatch):
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"data\.path is 'nobody/no-such-faces'.*not found, is unreachable"):
        load_source(config("hub", "nobody/no-such-faces"), "train")
    with pytest.raises(ValueError, match=r"data\.path is .*must be a Hub id or an existing folder"):
        load_source(config("hub", tmp_path / "none"), "train")
    with pytest.raises(ValueError, match=r"is a CelebA folder, which data\.source celeba reads"):
        load_source(config("hub", celeba[0]), "train")


# ------------------------------------------------------------------------------------------------------- attributes


@pytest.mark.parametrize(
    ("encoding", "written", "expected"),
    [
        ("number", ["-3.5", "7", ""], [-3.5, 7, np.nan]),
        ("binary", ["0", "1", ""], [0, 1, np.nan]),
        ("binary", ["False", "True", ""], [0, 1, np.nan]),
        ("signed", ["-1", "1", ""], [0, 1, np.nan]),
    ],
)
def test_attribute_encodings(config, pictures, encoding, written, expected):
    root = pictures(["train/a.png", "train/b.png", "train/c.png", "test/d.png"])
    rows = [f"{name}.png,{value}\n" for name, value in zip("abc", written, strict=True)]
    (root / "train" / "metadata.csv").write_text("file_name,x\n" + "".join(rows))
    images = read(config("imagefolder", root, attribute_encoding=encoding))
    np.testing.assert_array_equal(images.attributes["x"], np.float32(expected))
    assert images.attributes["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("encoding", "value"), [("binary", "-1"), ("binary", "0.5"), ("signed", "0"), ("signed", "2")]
)
def test_an_attribute_outside_its_encoding_is_named(config, pictures, encoding, value):
    root = pictures(["train/a.png", "train/b.png", "test/d.png"])
    (root / "train" / "metadata.csv").write_text(f"file_name,x\na.png,1\nb.png,{value}\n")
    with pytest.raises(ValueError, match=rf"data\.attribute_encoding is '{encoding}'; x is {value}, where it must be"):
        read(config("imagefolder", root, attribute_encoding=encoding))


def test_pictures_are_opened_from_their_own_folder(config, pictures):
    source = load_source(config("imagefolder", pictures(["train/a.png", "train/b.png", "test/c.png"])), "train")
    with source.open(1) as image:
        assert isinstance(image, Image.Image) and image.getpixel((0, 0)) == (1, 100, 200)
