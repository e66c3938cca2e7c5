"""Grey digits: MNIST's own files, scikit-learn's digits, and grey from colour."""

import gzip
import struct

import numpy as np
import pytest

from halfface_pipeline.data.sources import load_source
from tests.fixtures import read


def idx(values):
    """The bytes of an idx file, written as its specification tells."""
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_mnist(folder, number, packed=False):
    """The four files with random images, `number` to train on and one less to test; the images of both."""
    folder.mkdir(exist_ok=True)
    images = []
    for part, count in (("train", number), ("t10k", number - 1)):
        images.append(np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8))
        files = {"images-idx3-ubyte": images[-1], "labels-idx1-ubyte": np.arange(count, dtype=np.uint8)}
        for name, values in files.items():
            file = folder / f"{part}-{name}{'.gz' if packed else ''}"
            file.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    return images


def mnist_of(config, folder, **changes):
    return config("mnist", folder, **({"channels": 1, "height": 28, "width": 28} | changes))


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_files_come_back_as_they_were_written(config, tmp_path, packed):
    train, test = write_mnist(tmp_path / "mnist", 5, packed)
    data = mnist_of(config, tmp_path / "mnist")
    for split, written, part in (("train", train, "train"), ("eval", test, "t10k")):
        images = read(data, split)
        assert images.images.shape == (len(written), 28, 28, 1)
        np.testing.assert_array_equal(images.images[..., 0], written)
        assert images.attributes["label"].tolist() == list(range(len(written)))
        assert images.names[1] == f"mnist-{part}-1"
    few = read(mnist_of(config, tmp_path / "mnist", num_images=2))
    np.testing.assert_array_equal(few.images[..., 0], train[:2])


def test_grey_and_colour_of_the_same_pictures_are_two_sets(config, tmp_path, pictures):
    train, _ = write_mnist(tmp_path / "mnist", 3)
    grey = read(mnist_of(config, tmp_path / "mnist"))
    colour = read(mnist_of(config, tmp_path / "mnist", channels=3))
    assert grey.fingerprint != colour.fingerprint
    assert colour.images.shape == (3, 28, 28, 3)
    np.testing.assert_array_equal(colour.images, np.repeat(train[..., None], 3, axis=-1))
    folder = pictures(["train/a.png", "test/b.png"])
    luma = read(config("imagefolder", folder, channels=1))
    assert (luma.images == round(0.299 * 0 + 0.587 * 100 + 0.114 * 200)).all()
    drawn = [read(config("procedural", num_images=3, channels=c)) for c in (1, 3)]
    np.testing.assert_allclose(
        drawn[0].images[..., 0], drawn[1].images @ np.array([0.299, 0.587, 0.114]), rtol=0, atol=0.51
    )


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train-images-idx3-ubyte", None, "it lacks train-images-idx3-ubyte or train-images-idx3-ubyte.gz"),
        ("train-labels-idx1-ubyte", idx(np.zeros(4, np.uint8)), "train has 3 images and 4 labels"),
        ("train-images-idx3-ubyte", b"\x89PNG", "begins with 89504e47; it must be an idx file of 3 dimensions"),
        ("train-images-idx3-ubyte", idx(np.zeros((3, 2, 2), np.uint8))[:-1], "has 27 bytes; its header states 28"),
    ],
)
def test_files_that_are_not_mnist_are_refused(config, tmp_path, file, content, message):
    write_mnist(tmp_path / "mnist", 3)
    (tmp_path / "mnist" / file).unlink()
    if content is not None:
        (tmp_path / "mnist" / file).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_source(mnist_of(config, tmp_path / "mnist"), "train")


def test_a_broken_archive_and_an_unknown_split_are_refused(config, tmp_path):
    write_mnist(tmp_path / "mnist", 3, packed=True)
    with pytest.raises(ValueError, match=r"data.eval_split is 'valid'; it must be one of train, test"):
        load_source(mnist_of(config, tmp_path / "mnist", eval_split="valid"), "train")
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte.gz cannot be read"):
        load_source(mnist_of(config, tmp_path / "mnist"), "train")


def test_the_built_in_digits_are_scikit_learns_and_a_part_is_held_out(config):
    sklearn = pytest.importorskip("sklearn.datasets", reason="the extra `digits` is not installed")
    data = config("digits", channels=1, height=24, width=24, holdout=0.1)
    train, held_out = read(data), read(data, "eval")
    rows = [int(name.removeprefix("digits-")) for name in (*train.names, *held_out.names)]
    assert sorted(rows) == list(range(1797)) and 120 < len(held_out) < 240
    pixels, labels = sklearn.load_digits(return_X_y=True)
    assert [*train.attributes["label"], *held_out.attributes["label"]] == labels[rows].tolist()
    blocks = train.images[:20, ..., 0].reshape(20, 8, 3, 8, 3).mean((2, 4)) / 255
    truth = pixels[rows[:20]].reshape(20, 8, 8) / 16
    assert np.corrcoef(blocks.ravel(), truth.ravel())[0, 1] > 0.98


def test_without_scikit_learn_the_extra_is_named(config, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match=r"data.source is 'digits'.* install halfface-pipeline\[digits\]"):
        load_source(config("digits"), "train")
