"""Crop and resize geometry, every kind of picture, bad pictures, and the cache."""

import inspect
import io
import multiprocessing
import os
import shutil
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data import load_images, procedural
from halfface_pipeline.data.procedural import canvas as face_canvas
from halfface_pipeline.data.procedural import renderer as face_renderer
from halfface_pipeline.remote_code.image_io import resize_to
from tests.fixtures import read

RED, GREEN = (255, 0, 0), (0, 160, 0)


@pytest.fixture
def folder_with(pictures, tmp_path):
    """A folder that trains on one file, given as an image or as bytes."""

    def make(content, name="x.png", **how):
        root = pictures(["test/held_out.png"])
        place = root / "train" / name
        place.parent.mkdir(exist_ok=True)
        if isinstance(content, Image.Image):
            content.save(place, **how)
        else:
            place.write_bytes(content)
        return root

    return make


def framed(size, box):
    """A green box in a red frame."""
    image = Image.new("RGB", size, RED)
    image.paste(GREEN, box)
    return image


# --------------------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize(
    ("size", "box", "height", "width"),
    [
        ((60, 40), (10, 0, 50, 40), 16, 16),  # wide: ten columns fall off each side
        ((40, 60), (0, 10, 40, 50), 16, 16),
        ((178, 198), (1, 0, 177, 198), 18, 16),
        ((61, 40), (10, 0, 51, 40), 16, 16),  # an odd rest: the spare column falls off on the right
        ((300, 100), (100, 0, 200, 100), 50, 50),
    ],
)
def test_exactly_the_centre_is_cut_out(size, box, height, width):
    found = np.asarray(resize_to(framed(size, box), height, width))
    assert found.shape == (height, width, 3)
    np.testing.assert_array_equal(found, np.broadcast_to(np.uint8(GREEN), found.shape))
    left, top, right, bottom = box
    smaller = (left + 1, top + 1, right - 1, bottom - 1)
    assert (np.asarray(resize_to(framed(size, smaller), height, width))[:, :, 0] > 0).any()


def test_a_picture_of_the_right_size_is_left_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (18, 16, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(resize_to(Image.fromarray(pixels), 18, 16)), pixels)


@pytest.mark.parametrize("size", [(7, 5), (200, 301), (1, 1), (500, 3)])
def test_a_constant_stays_constant(size):
    found = np.asarray(resize_to(Image.new("RGB", size, (1, 130, 254)), 18, 16))
    np.testing.assert_array_equal(found, np.broadcast_to(np.uint8([1, 130, 254]), (18, 16, 3)))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_shrinking_averages_what_it_leaves_out(config, folder_with, suffix):
    # One column in two is white: any filter that skips pixels gives black or white columns.
    stripes = np.zeros((320, 320, 3), np.uint8)
    stripes[:, ::2] = 255
    data = config("imagefolder", folder_with(Image.fromarray(stripes), f"x.{suffix}"))
    found = read(data).images
    assert np.abs(found[0, :, 1:-1].astype(int) - 128).max() <= 4


@pytest.mark.parametrize(("size", "scale"), [((1024, 768), 8), ((1001, 777), 1), ((1004, 776), 4), ((80, 64), 2)])
def test_a_large_jpeg_is_decoded_small_only_where_the_picture_stays_in_place(config, folder_with, size, scale):
    y, x = np.mgrid[0 : size[1], 0 : size[0]] / max(size)
    wave = np.stack([np.sin(9 * x + 4 * y), np.cos(7 * x), np.sin(11 * y)], axis=2)
    image = Image.fromarray((127 + 120 * wave).astype(np.uint8))
    root = folder_with(image, "x.jpg", quality=95, subsampling=0)
    found = read(config("imagefolder", root)).images[0]
    assert np.abs(found.astype(int) - np.asarray(resize_to(image, 16, 16))).max() <= 4
    stored = Image.open(root / "train" / "x.jpg")
    stored.draft(None, (size[0] // scale, size[1] // scale))
    np.testing.assert_array_equal(found, np.asarray(resize_to(stored, 16, 16)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_pictures_are_upright(config, folder_with, orientation):
    # The upright picture is 400 wide and 200 high and red on the left half of its top.
    upright = Image.new("RGB", (400, 200), GREEN)
    upright.paste(RED, (0, 0, 200, 100))
    turn = Image.Transpose
    stored_by = {2: 0, 3: turn.ROTATE_180, 4: 1, 5: turn.TRANSPOSE, 6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: 4}
    stored = upright.transpose(stored_by[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = config("imagefolder", folder_with(stored, "x.jpg", exif=exif, quality=95), width=32)
    found = read(data).images[0].astype(int)
    red = found[:, :, 0] > 128
    assert red[1:7, 1:15].all() and not red[9:, :].any() and not red[:, 17:].any()


# ---------------------------------------------------------------------------------------------------- kinds of picture

GREY16 = np.full((20, 20), 257 * 100 + 20, np.uint16)
GREY16_BIG = Image.frombytes("I;16B", (20, 20), GREY16.astype(">u2").tobytes())


def palette(transparency=None):
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("1", (20, 20), 1), (255, 255, 255)),
        (Image.new("L", (20, 20), 77), (77, 77, 77)),
        (Image.new("LA", (20, 20), (100, 0)), (255, 255, 255)),
        (Image.new("LA", (20, 20), (100, 255)), (100, 100, 100)),
        (palette(), (10, 20, 30)),
        (palette(transparency=1), (255, 255, 255)),
        (palette(transparency=0), (10, 20, 30)),
        (Image.new("RGB", (20, 20), (10, 20, 30)), (10, 20, 30)),
        (Image.new("RGBA", (20, 20), (10, 20, 30, 255)), (10, 20, 30)),
        (Image.new("RGBA", (20, 20), (10, 20, 30, 0)), (255, 255, 255)),
        (Image.new("RGBA", (20, 20), (0, 100, 200, 51)), (204, 224, 244)),
        (Image.new("CMYK", (20, 20), (255, 0, 0, 0)), (0, 255, 255)),
        (Image.new("YCbCr", (20, 20), (90, 128, 128)), (90, 90, 90)),
        (Image.new("HSV", (20, 20), (0, 255, 200)), (200, 0, 0)),
        (Image.fromarray(GREY16), (100, 100, 100)),
        (Image.fromarray(np.full((20, 20), 65535, np.uint16)), (255, 255, 255)),
        (GREY16_BIG, (100, 100, 100)),
        (Image.fromarray(GREY16.astype(np.int32)), (100, 100, 100)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value),
)
def test_every_mode_becomes_8_bit_rgb(image, expected):
    found = resize_to(image, 16, 16)
    assert (found.mode, found.size) == ("RGB", (16, 16))
    np.testing.assert_array_equal(np.asarray(found), np.broadcast_to(np.uint8(expected), (16, 16, 3)))


@pytest.mark.parametrize(
    "image", [Image.new("F", (20, 20), 0.5), Image.new("I", (20, 20), 65536), Image.new("I", (20, 20), -1)]
)
def test_pixels_without_a_known_range_are_refused(image):
    with pytest.raises(ValueError, match=r"floats, whose range is unknown|its integers reach from"):
        resize_to(image, 16, 16)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.TIFF"])
def test_16_bit_files_are_scaled_not_clipped(config, folder_with, name):
    data = config("imagefolder", folder_with(Image.fromarray(GREY16), name))
    assert (read(data).images == 100).all()


def test_the_given_image_is_left_as_it_was():
    image = Image.open(io.BytesIO(jpeg((400, 300))))
    resize_to(image, 16, 16)
    assert image.size == (400, 300)


# ---------------------------------------------------------------------------------------------------------- bad files


def jpeg(size=(200, 200)):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def bomb():
    """A PNG whose header claims 60,000 x 60,000 pixels."""
    stream = io.BytesIO()
    Image.new("RGB", (20, 20)).save(stream, "PNG")
    header = bytearray(stream.getvalue())
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    return bytes(header)


BAD = {
    "truncated": (jpeg()[:3000], "truncated"),
    "empty": (b"", "cannot identify image file"),
    "text": (b"this is no picture\n" * 20, "cannot identify image file"),
    "bomb": (bomb(), "decompression bomb"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_picture_stops_or_is_left_out_and_listed(config, pictures, kind):
    content, reason = BAD[kind]
    root = pictures(["train/a.png", "train/b.png", "train/d.png", "test/e.png"])
    (root / "train" / "c.jpg").write_bytes(content)
    (root / "train" / "metadata.csv").write_text("file_name,x\na.png,1\nb.png,2\nc.jpg,3\nd.png,4\n")
    with pytest.raises(ValueError, match=rf"c\.jpg in .* cannot be read: .*{reason}.*data\.on_bad_image is 'error'"):
        read(config("imagefolder", root))
    for _ in ("prepared", "from the cache"):
        with pytest.warns(UserWarning, match=r"left out 1 of 4 train pictures that cannot be read: c\.jpg: "):
            images = read(config("imagefolder", root, on_bad_image="skip"))
        assert images.names == ("a.png", "b.png", "d.png") and len(images) == 3
        assert images.images[:, 0, 0, 0].tolist() == [0, 1, 2]
        assert images.attributes["x"].tolist() == [1, 2, 4]
        [(name, told)] = images.skipped
        assert name == "c.jpg" and reason in told


def test_a_picture_that_may_not_be_opened_is_bad(config, pictures):
    root = pictures(["train/a.png", "train/b.png", "test/c.png"])
    (root / "train" / "b.png").unlink()
    (root / "train" / "b.png").mkdir()  # a folder that took a picture's place is no picture at all
    (root / "train" / "d.png").symlink_to(root / "gone.png")
    with pytest.raises(ValueError, match=r"d\.png in .* cannot be read: .*No such file"):
        read(config("imagefolder", root))


@pytest.mark.parametrize(
    ("policy", "message"),
    [("skip", r"data\.path is .*; no picture can be read, x\.png first: cannot identify"), ("error", r"x\.png in ")],
)
def test_nothing_but_bad_pictures_is_an_error_and_leaves_no_cache(config, folder_with, tmp_path, policy, message):
    with pytest.raises(ValueError, match=message):
        read(config("imagefolder", folder_with(b"no picture"), on_bad_image=policy))
    assert [file.name for file in (tmp_path / "cache").glob("*/*")] == [".lock"]


# -------------------------------------------------------------------------------------------------------------- cache


def rot(path: Path) -> None:
    """Zero a file's bytes and keep its size and times: whoever decodes it again fails."""
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_prepared_set_is_read_without_decoding_and_cannot_be_written(config, pictures, tmp_path):
    root = pictures(["train/a.png", "train/b.png", "test/c.png"])
    (root / "train" / "metadata.csv").write_text("file_name,x\na.png,1\n")
    first = read(config("imagefolder", root))
    rot(root / "train" / "a.png")
    again = read(config("imagefolder", root))
    assert isinstance(again.images, np.memmap) and again.images.dtype == np.uint8
    assert again.images.tobytes() == first.images.tobytes() and again.names == first.names
    assert (
        again.fingerprint == first.fingerprint and again.attributes["x"].tobytes() == first.attributes["x"].tobytes()
    )
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [first.fingerprint]
    for array in (again.images, again.attributes["x"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize(
    "changes",
    [
        {"height": 18},
        {"width": 18},
        {"num_images": 2},
        {"on_bad_image": "skip"},
        {"attribute_columns": ("x",)},
        {"attribute_encoding": "binary"},
        {"train_split": "more"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_each_setting_that_matters_has_a_set_of_its_own(config, pictures, changes):
    root = pictures([f"{part}/{name}.png" for part in ("train", "test", "more") for name in "abc"])
    for part in ("train", "more"):
        (root / part / "metadata.csv").write_text("file_name,x,y\na.png,1,0\n")
    assert len({read(config("imagefolder", root, **how)).fingerprint for how in ({}, changes)}) == 2


def test_what_does_not_matter_shares_the_set(config, pictures):
    root = pictures(["train/a.png", "train/b.png", "test/c.png"])
    changes = ({}, {"horizontal_flip": False}, {"seed": 3}, {"holdout": 0.5}, {"image_column": "x"})
    assert len({read(config("imagefolder", root, **how)).fingerprint for how in changes}) == 1


def test_seed_and_holdout_matter_where_images_are_held_out_or_drawn(config, pictures):
    root = pictures([f"{number}.png" for number in range(40)])
    changes = ({"holdout": 0.5}, {"holdout": 0.5, "seed": 1}, {"holdout": 0.1})
    assert len({read(config("imagefolder", root, **how)).fingerprint for how in changes}) == 3
    drawn = [read(config("procedural", num_images=4, seed=seed)) for seed in (0, 1)]
    assert drawn[0].fingerprint != drawn[1].fingerprint and (drawn[0].images != drawn[1].images).any()


@pytest.mark.parametrize("change", ["picture", "touched", "added", "renamed", "metadata"])
def test_a_changed_folder_is_prepared_again(config, pictures, change):
    root = pictures(["train/a.png", "train/b.png", "test/c.png"])
    metadata = root / "train" / "metadata.csv"
    metadata.write_text("file_name,x\na.png,1\n")
    before = read(config("imagefolder", root))
    picture, status = root / "train" / "a.png", (root / "train" / "a.png").stat()
    if change == "picture":
        Image.new("RGB", (21, 21), RED).save(picture)
        os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert picture.stat().st_size != status.st_size
    elif change == "touched":
        os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif change == "added":
        (root / "train" / "d.png").write_bytes(picture.read_bytes())
    elif change == "renamed":
        picture.rename(root / "train" / "A.png")
        metadata.write_text("file_name,x\nA.png,1\n")
    else:
        stamp = metadata.stat()
        metadata.write_text("file_name,x\na.png,2\n")
        os.utime(metadata, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    after = read(config("imagefolder", root))
    assert after.fingerprint != before.fingerprint
    if change == "picture":
        assert tuple(after.images[0, 0, 0]) == RED
    if change == "metadata":
        assert after.attributes["x"][0] == 2


def test_folders_that_look_alike_are_told_apart(config, pictures):
    names = ["train/a.png", "train/b.png", "test/c.png"]
    one, two = pictures(names, "one"), pictures(names, "two")
    for name in names:
        for place in (one / name, two / name):
            os.utime(place, ns=(0, 0))
    sets = [read(config("imagefolder", root)) for root in (one, two)]
    assert sets[0].fingerprint != sets[1].fingerprint and sets[0].images_sha256() == sets[1].images_sha256()
    other = read(config("imagefolder", one), "eval")
    assert other.images_sha256() != sets[0].images_sha256()


@pytest.mark.parametrize("changed", [procedural, face_renderer, face_canvas])
def test_a_changed_renderer_is_not_served_the_old_faces(config, monkeypatch, changed):
    data = config("procedural", num_images=4)
    before = read(data).fingerprint
    assert read(data).fingerprint == before
    source = inspect.getsource
    monkeypatch.setattr(inspect, "getsource", lambda module: source(module) + "#" * (module is changed))
    assert read(data).fingerprint != before


@pytest.mark.parametrize("file", ["images.npy", "attributes.npy", "index.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "garbage", "fewer"])
def test_a_damaged_set_is_made_anew(config, pictures, tmp_path, file, damage):
    root = pictures(["train/a.png", "train/b.png", "test/c.png"])
    (root / "train" / "metadata.csv").write_text("file_name,x\na.png,1\n")
    first = read(config("imagefolder", root))
    pixels, place = first.images.tobytes(), tmp_path / "cache" / first.fingerprint / file
    content = place.read_bytes()
    place.unlink()
    if damage == "fewer" and file == "images.npy":
        np.save(place, first.images[:1])
    elif damage in ("empty", "cut", "garbage"):
        place.write_bytes({"empty": b"", "cut": content[:-10], "garbage": b"\xff" * len(content)}[damage])
    again = read(config("imagefolder", root))
    assert again.images.tobytes() == pixels and again.attributes["x"][0] == 1
    assert place.read_bytes() == content
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [first.fingerprint]


@pytest.mark.slow
def test_two_processes_may_prepare_the_same_set_at_once(config, tmp_path):
    fork = multiprocessing.get_context("fork")
    start, said = fork.Barrier(2), fork.SimpleQueue()

    def prepare():
        start.wait()
        images = read(config("procedural", num_images=600))
        said.put((images.fingerprint, images.images.shape, int(images.images.sum())))

    processes = [fork.Process(target=prepare) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    one, two = said.get(), said.get()
    assert one == two and one[1] == (600, 16, 16, 3)
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [one[0]]


def test_threads_that_find_a_damaged_set_at_once_all_get_a_whole_one(config, pictures, tmp_path):
    root = pictures(["train/a.png", "train/b.png", "test/c.png"])
    first = read(config("imagefolder", root))
    (tmp_path / "cache" / first.fingerprint / "index.json").write_text("{")
    found, start = [], threading.Barrier(6)

    def load():
        start.wait()
        found.append(read(config("imagefolder", root)).images.tobytes())

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [first.images.tobytes()] * 6
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [first.fingerprint]


def test_the_cache_goes_where_it_is_told(monkeypatch, tmp_path):
    data = DataConfig(num_images=2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    first = read(data)
    assert (tmp_path / "xdg" / "halfface_pipeline" / first.fingerprint / "images.npy").is_file()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    read(data)
    assert (tmp_path / "home" / ".cache" / "halfface_pipeline" / first.fingerprint).is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"data\.cache_dir is .*file.*; it must be a folder that can be written to"):
        read(DataConfig(num_images=2, cache_dir=str(tmp_path / "file")))


def test_a_set_larger_than_the_disk_is_refused_before_it_is_begun(config, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=16 * 16 * 3 * 100 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match=r"data\.cache_dir is .* 76800 bytes are needed and 76799 are free"):
        read(config("procedural", num_images=100))
    assert [file.name for file in (tmp_path / "cache").glob("*/*")] == [".lock"]


def test_progress_goes_to_stderr_or_nowhere(config, capsys):
    load_images(config("procedural", num_images=3), "train")
    shown = capsys.readouterr()
    assert shown.out == "" and "preparing train images" in shown.err and "3/3" in shown.err
    read(config("procedural", num_images=4))
    assert capsys.readouterr() == ("", "")
