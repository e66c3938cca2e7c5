"""Images decoded, cut and resized once, then read from a memory map.

A prepared set is a folder under the cache named by the hash of all that went into it; it is there whole or not at all.
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

# Part of the cache key: raise it whenever the same picture comes out of `_read` with other pixels.
RECIPE = 1
CHUNK = 64
DRAWN_CHUNK = 256
ABANDONED_SECONDS = 2 * 24 * 3600
"""A set in preparation that nobody has written to for so long belongs to a process that was killed."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size and what is known about each.

    Attributes:
        images: uint8 (N, height, width, channels), RGB or grey, read-only, memory-mapped.
        names: File name relative to its folder, or row, of each image.
        attributes: float32 (N,) each, read-only; NaN where missing.
        fingerprint: SHA-256, in hex, of everything that the set was made from.
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
        """SHA-256, in hex, of the pixels alone: the same wherever the files lie, and whenever they were copied."""
        digest = hashlib.sha256(str(self.images.shape).encode())
        for start in range(0, len(self), CHUNK):
            digest.update(self.images[start : start + CHUNK].tobytes())
        return digest.hexdigest()


def overlap(a: ImageSet, b: ImageSet) -> tuple[str, ...]:
    """Names of the images of `a` whose pixels are also in `b`, whatever their files are called."""
    if a.images.shape[1:] != b.images.shape[1:]:
        raise ValueError(
            f"the images have shapes {a.images.shape[1:]} and {b.images.shape[1:]}; they must be of one size"
        )
    known = {hashlib.sha256(image.tobytes()).digest() for image in b.images}
    digests = (hashlib.sha256(image.tobytes()).digest() for image in a.images)
    return tuple(name for name, digest in zip(a.names, digests, strict=True) if digest in known)


def load_images(data: DataConfig, split: Split, progress: bool = True) -> ImageSet:
    """Read the images of one part from the cache, preparing them first where they are not there.

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
    fingerprint = _fingerprint(data, source)
    cache = _cache_dir(data)
    entry = cache / fingerprint
    prepared = _read_entry(entry, fingerprint)
    if prepared is None:
        attributes = read_attributes(source.table(), data)
        with _workplace(cache, len(source.names) * data.height * data.width * data.channels) as folder:
            _prepare(folder, source, attributes, data, f"preparing {split} images" if progress else None)
            # Opened before it is moved: another process may put its own in that place at any moment.
            made = _read_entry(folder, fingerprint)
            _publish(folder, entry)
        prepared = _read_entry(entry, fingerprint) or made
        if prepared is None:
            raise ValueError(f"data.cache_dir is {str(cache)!r}; what was written there cannot be read back")
    if prepared.skipped:
        few = "; ".join(f"{name}: {reason}" for name, reason in prepared.skipped[:3])
        left_out, all_there = len(prepared.skipped), len(source.names)
        warnings.warn(f"left out {left_out} of {all_there} {split} pictures that cannot be read: {few}", stacklevel=2)
    return prepared


def load_categories(data: DataConfig, split: Split, names: Sequence[str], most: int) -> dict[str, np.ndarray]:
    """Columns of words beside the pictures of an image folder, those with few different words.

    Args:
        data: The data section of the configuration.
        split: `train` or `eval`.
        names: The pictures asked about, as in `ImageSet.names`.
        most: Most different words of a column; one with more is no category.

    Returns:
        Strings (N,) by column, empty where missing; none for other sources, which keep numbers alone.

    Raises:
        ValueError: As `load_images`.
    """
    if data.source != "imagefolder":
        return {}
    source = load_source(data, split)
    table, row_of = source.table(), {name: row for row, name in enumerate(source.names)}
    rows = [row_of[name] for name in names]
    found = {}
    for column in table.column_names:
        if pa.types.is_string(table[column].type) or pa.types.is_large_string(table[column].type):
            words = table[column].to_pylist()
            values = np.array([words[row] or "" for row in rows])
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
    folder: Path,
    source: Source,
    attributes: dict[str, np.ndarray],
    data: DataConfig,
    label: str | None,
) -> None:
    """Write images.npy, attributes.npy and, last, index.json."""
    names = source.names
    shape = (len(names), data.height, data.width, data.channels)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, shape)
    bad = _fill(images, source, data, label)
    if len(bad) == len(names):
        row, reason = next(iter(bad.items()))
        raise ValueError(f"data.path is {data.path!r}; no picture can be read, {names[row]} first: {reason}")
    kept = [row for row in range(len(names)) if row not in bad]
    if bad:
        _require_room(folder.parent, len(kept) * images[0].nbytes)
        whole = np.lib.format.open_memmap(folder / "kept.npy", "w+", np.uint8, (len(kept), *shape[1:]))
        for first in range(0, len(kept), CHUNK):
            whole[first : first + CHUNK] = images[kept[first : first + CHUNK]]
        images = whole
        os.replace(folder / "kept.npy", folder / "images.npy")
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
    """Read or draw every picture into its row; gives the rows that could not be read, with the reason."""

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

    step = CHUNK if source.draw is None else DRAWN_CHUNK
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
    settings = (data.on_bad_image, data.attribute_columns, data.attribute_encoding)
    # Colour adds nothing, so that sets prepared before there was grey are still found.
    grey = () if data.channels == 3 else ("grey",)
    went_in = (RECIPE, data.source, data.height, data.width, *grey, *settings, source.identity, source.names)
    return hashlib.sha256(json.dumps(went_in).encode()).hexdigest()


def _cache_dir(data: DataConfig) -> Path:
    default = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "halfface_pipeline")
    return Path(data.cache_dir or default).expanduser()


def _read_entry(entry: Path, fingerprint: str) -> ImageSet | None:
    """The prepared set in this folder; none where it is absent, incomplete or damaged."""
    try:
        index = json.loads((entry / "index.json").read_text())
        images = np.load(entry / "images.npy", mmap_mode="r")
        values = np.load(entry / "attributes.npy")
        names, skipped = tuple(index["names"]), tuple((name, reason) for name, reason in index["skipped"])
        if (
            images.dtype != np.uint8
            or len(images) != len(names)
            or values.shape != (len(index["attributes"]), len(names))
        ):
            return None
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None
    values.flags.writeable = False
    return ImageSet(images, names, dict(zip(index["attributes"], values, strict=True)), fingerprint, skipped)


@contextmanager
def _workplace(cache: Path, num_bytes: int) -> Iterator[Path]:
    """A new folder inside the cache, gone afterwards unless it was moved."""
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
        _require_room(cache, num_bytes)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _require_room(cache: Path, num_bytes: int) -> None:
    """Writing a memory map to a full disk ends the process with a bus error, so ask before."""
    free = shutil.disk_usage(cache).free
    if free < num_bytes:
        raise ValueError(f"data.cache_dir is {str(cache)!r}; {num_bytes} bytes are needed and {free} are free")


def _publish(folder: Path, entry: Path) -> None:
    """Move the finished folder to its name; what another process put there first, whole, stays."""
    for _ in range(3):
        try:
            os.replace(folder, entry)
            return
        except OSError:
            if _read_entry(entry, entry.name) is not None:
                return
        # A damaged set is in the way: it goes aside in one move, so that nobody ever sees half of one deleted.
        aside = entry.with_name(f"unfinished-{uuid.uuid4().hex}")
        with suppress(OSError):
            os.replace(entry, aside)
        shutil.rmtree(aside, ignore_errors=True)
