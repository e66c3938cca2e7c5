"""Images decoded, cropped and resized once, then read from a memory map.

A prepared set is a folder in the cache named by the hash of its settings and source; it is complete or absent.
"""

import hashlib
import json
import os
import shutil
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
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

# Part of the cache key: raise it whenever `_read` gives other pixels for the same picture.
CACHE_VERSION = 1
CHUNK = 64
RENDERED_CHUNK = 256
ABANDONED_SECONDS = 2 * 24 * 3600
"""A set in preparation that has not been written to for so long belongs to a killed process."""


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
    source, cache = load_source(data, split), _cache_dir(data)
    fingerprint = _fingerprint(data, source)
    entry = cache / fingerprint
    prepared = _read_entry(entry, fingerprint)
    if prepared is None:
        attributes = read_attributes(source.table(), data)
        with _unfinished_entry(cache, len(source.names) * data.height * data.width * data.channels) as folder:
            _prepare(folder, source, attributes, data, f"preparing {split} images" if progress else None)
            # Opened before it is moved: another process may put its own in that place at any moment.
            made = _read_entry(folder, fingerprint)
            _publish(folder, entry)
        prepared = _read_entry(entry, fingerprint) or made
        if prepared is None:
            raise ValueError(f"data.cache_dir is {str(cache)!r}; what was written there cannot be read back")
    if prepared.skipped:
        few = "; ".join(f"{name}: {reason}" for name, reason in prepared.skipped[:3])
        count = f"{len(prepared.skipped)} of {len(source.names)} {split}"
        warnings.warn(f"left out {count} pictures that cannot be read: {few}", stacklevel=2)
    return prepared


def load_categories(data: DataConfig, split: Split, names: Sequence[str], most: int) -> dict[str, np.ndarray]:
    """Text columns of an image folder's metadata with few distinct values; other sources keep numbers only.

    Args:
        data: The data section of the configuration.
        split: `train` or `eval`.
        names: Pictures to look up, as in `ImageSet.names`.
        most: Largest number of distinct values of a column.

    Returns:
        Strings (N,) per column, empty where missing.
    """
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
    folder: Path, source: Source, attributes: dict[str, np.ndarray], data: DataConfig, label: str | None
) -> None:
    """Writes images.npy, attributes.npy and, last, index.json; unused rows of images.npy are at its end."""
    names = source.names
    shape = (len(names), data.height, data.width, data.channels)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, shape)
    bad = _fill(images, source, data, label)
    if len(bad) == len(names):
        row, reason = next(iter(bad.items()))
        raise ValueError(f"data.path is {data.path!r}; no picture can be read, {names[row]} first: {reason}")
    kept = [row for row in range(len(names)) if row not in bad]
    if bad:
        for place, row in enumerate(kept):
            images[place] = images[row]
    images.flush()
    values = np.stack(list(attributes.values())) if attributes else np.empty((0, len(names)))
    np.save(folder / "attributes.npy", values.astype(np.float32)[:, kept])
    index = {
        "names": [names[row] for row in kept],
        "attributes": list(attributes),
        "skipped": [(names[row], reason) for row, reason in bad.items()],
    }
    (folder / "index.json").write_text(json.dumps(index))


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


def _read_entry(entry: Path, fingerprint: str) -> ImageSet | None:
    """The prepared set in this folder; None if it is absent, incomplete or damaged."""
    try:
        index = json.loads((entry / "index.json").read_text())
        names, skipped = tuple(index["names"]), tuple((name, reason) for name, reason in index["skipped"])
        images = np.load(entry / "images.npy", mmap_mode="r")[: len(names)]
        values = np.load(entry / "attributes.npy")
        fits = images.dtype == np.uint8 and values.shape == (len(index["attributes"]), len(names))
        if not fits or len(images) != len(names):
            return None
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    values.flags.writeable = False
    return ImageSet(images, names, dict(zip(index["attributes"], values, strict=True)), fingerprint, skipped)


@contextmanager
def _unfinished_entry(cache: Path, num_bytes: int) -> Iterator[Path]:
    """A new folder inside the cache, deleted afterwards unless it was moved."""
    folder = cache / f"unfinished-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"data.cache_dir is {str(cache)!r}; it must be a writable folder: {error}") from error
    for abandoned in cache.glob("unfinished-*"):
        with suppress(OSError):  # another process may be deleting it
            written = max(path.stat().st_mtime for path in (abandoned, *abandoned.iterdir()))
            if time.time() - written > ABANDONED_SECONDS:
                shutil.rmtree(abandoned)
    try:
        free = shutil.disk_usage(cache).free
        if free < num_bytes:  # writing a memory map to a full disk ends the process with a bus error
            raise ValueError(f"data.cache_dir is {str(cache)!r}; {num_bytes} bytes are needed and {free} are free")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, entry: Path) -> None:
    """Moves the finished folder to its name; a valid set that another process put there first stays."""
    for _ in range(3):
        try:
            os.replace(folder, entry)
            return
        except OSError:
            if _read_entry(entry, entry.name) is not None:
                return
        # A damaged set is in the way: it is moved aside at once, so that no process sees a part of it deleted.
        aside = entry.with_name(f"unfinished-{uuid.uuid4().hex}")
        with suppress(OSError):
            os.replace(entry, aside)
        shutil.rmtree(aside, ignore_errors=True)
