"""Images decoded, cropped and resized once, then read from a memory map.

A prepared set is a folder in the cache named by the hash of its settings and source. One process prepares it and
writes its index last.
"""

import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import ExifTags, Image
from tqdm import tqdm

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data.attributes import read_attributes
from halfface_pipeline.data.sources import load_source
from halfface_pipeline.data.splits import Source, Split
from halfface_pipeline.remote_code.image_io import resize_to
from halfface_pipeline.run_folder.files import atomic_write, atomic_write_text
from halfface_pipeline.run_folder.lock import lock_folder

# Part of the cache key: raise it whenever `_read` gives other pixels for the same picture.
CACHE_VERSION = 1
CHUNK = 64
RENDERED_CHUNK = 256
IMAGES, ATTRIBUTES, INDEX = "images.npy", "attributes.npy", "index.json"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size with their attributes.

    Attributes:
        images: uint8 (N, height, width, channels), RGB or grey, read-only, memory-mapped.
        names: File name relative to its folder, or row, of each image.
        attributes: float32 (N,) each, read-only; NaN where missing.
        fingerprint: SHA-256, in hex, of the settings and the source of the set.
        skipped: Name and reason of the pictures left out under `data.on_bad_image` skip.
    """

    images: np.ndarray
    names: tuple[str, ...]
    attributes: dict[str, np.ndarray]
    fingerprint: str
    skipped: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.images)

    def images_sha256(self) -> str:
        """SHA-256, in hex, of the pixels alone, independent of paths and dates of the files."""
        digest = hashlib.sha256(str(self.images.shape).encode())
        for start in range(0, len(self), CHUNK):
            digest.update(self.images[start : start + CHUNK].tobytes())
        return digest.hexdigest()


def overlap(a: ImageSet, b: ImageSet) -> tuple[str, ...]:
    """Names of the images of `a` whose pixels are also in `b`, whatever their files are called."""
    sizes = a.images.shape[1:], b.images.shape[1:]
    if sizes[0] != sizes[1]:
        raise ValueError(f"the images have shapes {sizes[0]} and {sizes[1]}; they must be of one size")
    known = {hashlib.sha256(image).digest() for image in b.images}
    return tuple(
        name for name, image in zip(a.names, a.images, strict=True) if hashlib.sha256(image).digest() in known
    )


def load_images(data: DataConfig, split: Split, progress: bool = True) -> ImageSet:
    """Reads the images of one split from the cache, preparing them first if they are not there.

    Args:
        data: The data section of the configuration.
        split: `train`, or `eval` for the images that are never trained on.
        progress: Show a progress bar on stderr while images are prepared.

    Returns:
        The images with their attributes, in the order of the source.

    Raises:
        ValueError: The source is missing, empty or too small; a column or split is missing; an attribute does not fit
            its encoding; a picture, or under `data.on_bad_image` skip every picture, cannot be read; or the cache
            cannot be written.
    """
    source = load_source(data, split)
    entry = _cache_dir(data) / _fingerprint(data, source)
    prepared = _read_entry(entry)
    if prepared is None:
        attributes = read_attributes(source.table(), data)
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            allowed = f"it must be a folder that can be written to: {error}"
            raise ValueError(f"data.cache_dir is {str(entry.parent)!r}; {allowed}") from error
        with lock_folder(entry, "data.cache_dir", "preparation", wait=True):
            prepared = _read_entry(entry)  # another process may have prepared it meanwhile
            if prepared is None:
                _prepare(entry, source, attributes, data, f"preparing {split} images" if progress else None)
                prepared = _read_entry(entry)
        if prepared is None:
            raise ValueError(f"data.cache_dir is {str(entry.parent)!r}; what was written there cannot be read back")
    if prepared.skipped:
        few = "; ".join(f"{name}: {reason}" for name, reason in prepared.skipped[:3])
        count = f"{len(prepared.skipped)} of {len(source.names)} {split}"
        warnings.warn(f"left out {count} pictures that cannot be read: {few}", stacklevel=2)
    return prepared


def load_categories(data: DataConfig, split: Split, names: Sequence[str], most: int) -> dict[str, np.ndarray]:
    """Text columns (N,) of an image folder's metadata with at most `most` distinct values, empty where missing."""
    if data.source != "imagefolder":
        return {}
    source = load_source(data, split)
    table, row_of = source.table(), {name: row for row, name in enumerate(source.names)}
    rows = pa.array([row_of[name] for name in names], pa.int64())
    found = {}
    for column in table.column_names:
        if pa.types.is_string(table[column].type) or pa.types.is_large_string(table[column].type):
            values = np.array([text or "" for text in table[column].take(rows).to_pylist()])
            if len(set(values.tolist()) - {""}) <= most:
                found[column] = values
    return found


def _read(image: Image.Image, height: int, width: int, channels: int) -> np.ndarray:
    try:
        sideways = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    except Exception:  # Pillow raises anything from SyntaxError to struct.error on broken EXIF
        sideways = False
    least = (2 * height, 2 * width) if sideways else (2 * width, 2 * height)
    # JPEG decodes much faster at 1/8 to 1/2 of its size; twice the target leaves the filter enough to average over.
    for scale in (8, 4, 2):
        size = image.width // scale, image.height // scale
        # A side that does not divide would be rounded up and the picture shift by a part of a pixel.
        whole = (size[0] * scale, size[1] * scale) == image.size
        if whole and size[0] >= least[0] and size[1] >= least[1]:
            image.draft(None, size)
            break
    return _in_channels(resize_to(image, height, width), channels)


def _in_channels(picture: Image.Image, channels: int) -> np.ndarray:
    """An RGB picture as (H, W, channels); grey is ITU-R 601 luma."""
    return np.asarray(picture) if channels == 3 else np.asarray(picture.convert("L"))[..., None]


def _prepare(
    entry: Path, source: Source, attributes: dict[str, np.ndarray], data: DataConfig, label: str | None
) -> None:
    """Writes images.npy, attributes.npy and, last, index.json; unused rows of images.npy are at its end."""
    names = source.names
    shape = (len(names), data.height, data.width, data.channels)
    needed, free = math.prod(shape), shutil.disk_usage(entry).free
    if free < needed:  # writing a memory map to a full disk ends the process with a bus error
        raise ValueError(f"data.cache_dir is {str(entry.parent)!r}; {needed} bytes are needed and {free} are free")
    with atomic_write(entry / IMAGES) as partial:
        images = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        bad = _fill(images, source, data, label)
        if len(bad) == len(names):
            row, reason = next(iter(bad.items()))
            raise ValueError(f"data.path is {data.path!r}; no picture can be read, {names[row]} first: {reason}")
        kept = [row for row in range(len(names)) if row not in bad]
        for place, row in enumerate(kept if bad else ()):
            images[place] = images[row]
        images.flush()
    values = np.stack(list(attributes.values())) if attributes else np.empty((0, len(names)))
    with atomic_write(entry / ATTRIBUTES) as partial:
        np.save(partial, values.astype(np.float32)[:, kept])
    index = {
        "names": [names[row] for row in kept],
        "attributes": list(attributes),
        "skipped": [(names[row], reason) for row, reason in bad.items()],
    }
    atomic_write_text(entry / INDEX, json.dumps(index))


def _fill(images: np.ndarray, source: Source, data: DataConfig, label: str | None) -> dict[int, str]:
    """Reads or renders every picture into its row; returns the reason for each row that cannot be read."""

    def fill(chunk: range) -> dict[int, str]:
        if source.draw is not None:
            drawn = source.draw(chunk)
            if data.channels != drawn.shape[-1]:
                drawn = np.stack([_in_channels(Image.fromarray(picture), data.channels) for picture in drawn])
            images[chunk.start : chunk.stop] = drawn
            return {}
        assert source.open is not None
        bad = {}
        for row in chunk:
            try:
                with source.open(row) as image:
                    images[row] = _read(image, data.height, data.width, data.channels)
            except Exception as error:  # decoders raise anything from SyntaxError to struct.error on a broken file
                bad[row] = " ".join(str(error).split()) or type(error).__name__
        return bad

    step = CHUNK if source.draw is None else RENDERED_CHUNK
    chunks = [range(first, min(first + step, len(images))) for first in range(0, len(images), step)]
    bad: dict[int, str] = {}
    pool = ThreadPoolExecutor(min(32, os.cpu_count() or 1))
    try:
        with tqdm(total=len(images), desc=label, unit="image", disable=label is None) as bar:
            for chunk, failures in zip(chunks, pool.map(fill, chunks), strict=True):
                bad |= failures
                if bad and data.on_bad_image == "error":
                    row, reason = next(iter(bad.items()))
                    raise ValueError(
                        f"{source.names[row]} in {data.path} cannot be read: {reason}; "
                        "data.on_bad_image is 'error', 'skip' leaves such pictures out"
                    )
                bar.update(len(chunk))
    finally:
        pool.shutdown(cancel_futures=True)
    return bad


def _fingerprint(data: DataConfig, source: Source) -> str:
    shape, settings = (data.height, data.width), (data.on_bad_image, data.attribute_columns, data.attribute_encoding)
    grey = () if data.channels == 3 else ("grey",)
    key = (CACHE_VERSION, data.source, *shape, *grey, *settings, source.identity, source.names)
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()


def _cache_dir(data: DataConfig) -> Path:
    default = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "halfface_pipeline")
    return Path(data.cache_dir or default).expanduser()


def _read_entry(entry: Path) -> ImageSet | None:
    """The prepared set in this folder; None if it is absent, incomplete or damaged."""
    try:
        index = json.loads((entry / INDEX).read_text())
        names, skipped = tuple(index["names"]), tuple((name, reason) for name, reason in index["skipped"])
        images = np.load(entry / IMAGES, mmap_mode="r")[: len(names)]
        values = np.load(entry / ATTRIBUTES)
        fits = images.dtype == np.uint8 and values.shape == (len(index["attributes"]), len(names))
        if not fits or len(images) != len(names):
            return None
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    values.flags.writeable = False
    return ImageSet(images, names, dict(zip(index["attributes"], values, strict=True)), entry.name, skipped)
