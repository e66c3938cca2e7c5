"""Handwritten digits in grey, for models that draw whole images: MNIST from its own files, and scikit-learn's."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data.splits import Source, Split, data_dir, holdout_indices, take

MNIST_PARTS = {"train": "train", "test": "t10k"}
IDX_OF_UNSIGNED_BYTES = 0x08
LARGEST_EMBEDDED_VALUE = 16


def mnist(data: DataConfig, split: Split) -> Source:
    """The digits of the four idx files of MNIST (LeCun et al. 1998), packed by gzip or not, with their `label`.

    Args:
        data: `path` is the folder of the files; the splits are `train` and `test`.
        split: The part to list.

    Returns:
        28x28 grey pictures.

    Raises:
        ValueError: If a file is missing or is no idx file of what it is named after, or a split is unknown.
    """
    folder = data_dir(data)
    for field in ("train_split", "eval_split"):
        if getattr(data, field) not in MNIST_PARTS:
            raise ValueError(f"data.{field} is {getattr(data, field)!r}; it must be one of {', '.join(MNIST_PARTS)}")
    part = MNIST_PARTS[data.train_split if split == "train" else data.eval_split]
    image_file = _find(folder, f"{part}-images-idx3-ubyte", data)
    label_file = _find(folder, f"{part}-labels-idx1-ubyte", data)
    images, labels = _read_idx(image_file, 3), _read_idx(label_file, 1)
    if len(images) != len(labels):
        raise ValueError(f"{image_file} holds {len(images)} images and {label_file.name} {len(labels)} labels")
    rows = take(list(range(len(images))), data, split)
    return _source(f"mnist-{part}", images, labels, rows)


def digits(data: DataConfig, split: Split) -> Source:
    """The 1,797 digits of 8x8 pixels that come with scikit-learn (Alpaydin and Kaynak 1998), with their `label`.

    Args:
        data: `holdout` and `seed` part them.
        split: The part to list.

    Returns:
        8x8 grey pictures.

    Raises:
        ValueError: If scikit-learn is not installed, or fewer digits are there than asked for.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(
            "data.source is 'digits', which needs scikit-learn: install halfface-pipeline[digits]"
        ) from error
    images, labels = load_digits(return_X_y=True)
    images = np.rint(images.reshape(-1, 8, 8) * (255 / LARGEST_EMBEDDED_VALUE)).astype(np.uint8)
    rows = holdout_indices([str(row) for row in range(len(images))], data, split)
    return _source("digits", images, labels, take(rows, data, split))


def _source(name: str, images: np.ndarray, labels: np.ndarray, rows: list[int]) -> Source:
    """Pictures that are in memory already, uint8 (N, H, W)."""
    identity = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()

    def table() -> pa.Table:
        return pa.table({"label": labels[rows].astype(np.int64)})

    def open_row(i: int) -> Image.Image:
        return Image.fromarray(images[rows[i]])

    return Source(tuple(f"{name}-{row}" for row in rows), identity, table, open=open_row)


def _find(folder: Path, name: str, data: DataConfig) -> Path:
    # Some copies have a dot before idx.
    names = [f"{stem}{ending}" for stem in (name, name.replace("-idx", ".idx")) for ending in ("", ".gz")]
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise ValueError(f"data.path is {data.path!r}; it lacks {name} or {name}.gz, a file of MNIST")
    return found


def _read_idx(file: Path, dimensions: int) -> np.ndarray:
    """Unsigned bytes of an idx file: two zeros, a type, the number of sides, each side big-endian, the values."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    start = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, IDX_OF_UNSIGNED_BYTES, dimensions)) or len(content) < start:
        raise ValueError(f"{file} begins with {content[:4].hex()}; it must be an idx file of {dimensions} dimensions")
    sides = np.frombuffer(content, ">u4", dimensions, offset=4)
    if len(content) != start + np.prod(sides, dtype=np.int64):
        raise ValueError(f"{file} has {len(content)} bytes; its header tells {start + np.prod(sides, dtype=np.int64)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(*sides)
