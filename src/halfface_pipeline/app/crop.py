"""Photos on the page: reading untrusted uploads, and the sliders that place a model's frame in them."""

import cmath
import functools
import io
import math
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw

from ..diffusion.halves import KNOWN_HALF, known_box
from ..inference.load import open_photo
from ..photo.faces import Face, can_find_faces, find_faces
from ..photo.frame import Similarity, centred_frame, corners

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""Formats that are decoded; Pillow's other decoders are not reachable by uploads."""

MOST_PIXELS = 60_000_000
SLIDERS = {
    "zoom": ("Zoom", 0.25, 15.0, 2),
    "across": ("Left or right", -1.0, 1.0, 3),
    "down": ("Up or down", -1.0, 1.0, 3),
    "turn": ("Turn in degrees", -180.0, 180.0, 1),
}
"""Label, lowest and highest value, and decimals of what places the frame, in the order of `frame`'s arguments."""
PREVIEW_SIDE = 560
PASTED_SIDE = 1280
"""Longest side in pixels of the photos that halves are pasted into: encoding larger ones takes seconds each."""
KEPT_PHOTOS = 200
"""Photos whose faces are remembered while sliders are moved."""
ACCENT = (255, 176, 32)
LABEL = "hidden: will be generated"


def read_upload(file: str | Path) -> PIL.Image.Image:
    """An untrusted upload as upright RGB without metadata; its size is checked before decoding.

    ValueError if it is not a picture, or too large; the message is shown to the visitor and names no file.
    """
    try:
        data = io.BytesIO(Path(file).read_bytes())
    except OSError:
        raise ValueError("The upload has been deleted. Please upload the photo again.") from None
    try:
        with PIL.Image.open(data, formats=FORMATS) as head:
            pixels = head.width * head.height
        if pixels <= MOST_PIXELS:
            return open_photo(data, None, FORMATS)
    except PIL.Image.DecompressionBombError:
        pass
    except Exception:  # decoders raise anything on a broken file
        raise ValueError("The file cannot be read. Use a JPEG, PNG, WebP, GIF or BMP picture.") from None
    raise ValueError(f"The picture is too large: at most {MOST_PIXELS // 1_000_000} million pixels are read.")


@functools.lru_cache(KEPT_PHOTOS)
def look_at(file: str) -> tuple[tuple[int, int], list[Face]]:
    """Width and height of an upload and its faces, the largest first; none without the extra `photo`."""
    photo = read_upload(file)
    return photo.size, find_faces(photo) if can_find_faces() else []


def frame(
    size: tuple[int, int], shape: tuple[int, int], zoom: float, across: float, down: float, turn: float
) -> Similarity:
    """Where the frame of (height, width) pixels lies in a photo of (width, height).

    At a zoom of 1 it is as large as fits upright, at z it is z times smaller. Its centre is in the middle of the photo
    where `across` and `down` are 0, and on its edges where they are -1 and 1. It is turned clockwise by `turn`
    degrees. ValueError outside the ranges of `SLIDERS`.
    """
    for (label, low, high, _), value in zip(SLIDERS.values(), (zoom, across, down, turn), strict=True):
        if not low <= value <= high:
            raise ValueError(f"{label} is {value:g}; it must be from {low:g} to {high:g}.")
    height, width = shape
    turned = cmath.rect(centred_frame(size, height, width).scale / zoom, math.radians(turn))
    centre = complex(size[0] * (1 + across), size[1] * (1 + down)) / 2
    return Similarity(turned, centre - turned * complex(width, height) / 2)


def settings(size: tuple[int, int], shape: tuple[int, int], place: Similarity) -> list[float]:
    """Inverse of `frame`, with what lies outside the ranges of `SLIDERS` moved to their ends."""
    height, width = shape
    across, down = 2 * place(np.array([width, height]) / 2) / size - 1
    zoom = centred_frame(size, height, width).scale / place.scale
    values = (zoom, across, down, math.degrees(cmath.phase(place.turn)))
    return [min(max(float(each), low), high) for each, (_, low, high, _) in zip(values, SLIDERS.values(), strict=True)]


def reduced_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """This width and height, or if a side is longer than `side`, that many times smaller."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def reduced(photo: PIL.Image.Image, place: Similarity, side: int) -> tuple[PIL.Image.Image, Similarity]:
    """A photo of `reduced_size`, and where the frame lies in it."""
    small = photo.resize(reduced_size(photo.size, side), PIL.Image.Resampling.LANCZOS, reducing_gap=3.0)
    return small, Similarity(max(small.size) / max(photo.size), 0).after(place)


def draw_frame(photo: PIL.Image.Image, place: Similarity, shape: tuple[int, int], hidden_half: str) -> PIL.Image.Image:
    """A preview of an RGB photo: dark outside the frame, with the cut line and the hidden half shaded."""
    small, place = reduced(photo, place, PREVIEW_SIDE)
    hidden_box = known_box(*shape, KNOWN_HALF[hidden_half])
    known, hidden = (corners(place, box).ravel().tolist() for box in (known_box(*shape, hidden_half), hidden_box))
    shade = PIL.Image.new("L", small.size, 150)
    pen = PIL.ImageDraw.Draw(shade)
    pen.polygon(known, 0)
    pen.polygon(hidden, 100)
    shown = PIL.Image.composite(PIL.Image.new("RGB", small.size, "black"), small, shade)
    pen = PIL.ImageDraw.Draw(shown)
    for half in (known, hidden):
        pen.polygon(half, outline=ACCENT, width=max(2, round(max(small.size) / 220)))
    left, top, right, bottom = hidden_box
    text_size = min(place.scale * (right - left) / 14, place.scale * (bottom - top) / 3, 22)
    if text_size >= 14:  # the preview is shown at half its size
        x, y = place(np.array([left + right, top + bottom]) / 2)
        pen.text((x, y), LABEL, fill="white", anchor="mm", font_size=text_size, stroke_width=1, stroke_fill="black")
    return shown
