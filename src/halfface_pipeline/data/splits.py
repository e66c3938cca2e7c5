"""The two splits of a source: the pictures trained on and those held out.

Without `data.eval_split` in the source, `data.holdout` of the training pictures are held out: those whose hash of
(seed, name) is below that fraction, so that adding pictures moves none of the others.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from PIL import Image

from halfface_pipeline.config.schema import DataConfig

Split = Literal["train", "eval"]


@dataclass(frozen=True)
class Source:
    """The pictures of one split, not yet read.

    Attributes:
        names: One name per picture: its path inside the folder, or its row.
        identity: Changes whenever a picture, a name or an attribute does; computed without opening pictures.
        table: Reads the columns stored with the pictures, N rows, null where missing; may have no column.
        open: Opens picture i as a PIL image, which the caller closes.
        draw: Replaces `open` for rendered pictures: uint8 (n, height, width, 3) of a range of them.
    """

    names: tuple[str, ...]
    identity: str
    table: Callable[[], pa.Table]
    open: Callable[[int], Image.Image] | None = None
    draw: Callable[[range], np.ndarray] | None = None


def data_dir(data: DataConfig) -> Path:
    """The folder `data.path`; ValueError if it is not one."""
    assert data.path is not None
    folder = Path(data.path).expanduser()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ValueError(f"data.path is {data.path!r}; it must be a folder, and it {what}")
    return folder


def file_state(name: str, folder: Path | None = None) -> bytes:
    """Name, size and time of a file, for the identity of a source."""
    try:
        status = os.stat(name if folder is None else os.path.join(folder, name))
    except (OSError, ValueError):
        return os.fsencode(f"\0{name}\0missing")
    return os.fsencode(f"\0{name}\0{status.st_size}\0{status.st_mtime_ns}")


def holdout_indices(names: Sequence[str], data: DataConfig, split: Split) -> list[int]:
    """The rows of this split, at least one, of a source with a single part."""
    if data.holdout == 1:
        if split == "train":
            raise ValueError("data.holdout is 1; it must be below 1 to leave images to train on")
        return list(range(len(names)))
    if len(names) < 2:
        raise ValueError(f"data.path is {data.path!r}; holding out images needs at least 2, and it has {len(names)}")
    digests = [hashlib.sha256(os.fsencode(f"{data.seed}:{name}")).digest()[:8] for name in names]
    places = np.array([int.from_bytes(digest, "big") / 2**64 for digest in digests])
    held_out = places < data.holdout
    held_out[places.argmin()], held_out[places.argmax()] = True, False
    return np.flatnonzero(held_out == (split == "eval")).tolist()


def take(items: list[Any], data: DataConfig, split: Split) -> list[Any]:
    """The first `data.num_images` or `data.num_eval_images` items of the split; ValueError if there are too few."""
    field = "num_images" if split == "train" else "num_eval_images"
    number = getattr(data, field)
    if not items:
        raise ValueError(f"data.path is {data.path!r}; its {split} part holds no image")
    if number is not None and number > len(items):
        raise ValueError(
            f"data.{field} is {number}; it must be at most {len(items)}, as many as {data.path or data.source} has"
        )
    return items[:number]
