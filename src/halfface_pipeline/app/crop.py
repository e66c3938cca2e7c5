"""Photos on the page: reading untrusted uploads, and the frame that cuts a face out of them."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw

from ..inference.load import open_photo
from ..photo.frame import Similarity

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""Formats that are decoded; Pillow's other decoders are not reachable by uploads."""

MOST_PIXELS = 60_000_000
LARGEST_ZOOM = 10.0
PREVIEW_SIDE = 560
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


def frame(
    size: tuple[int, int], shape: tuple[int, int], zoom: float, across: float, down: float
) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) that is completed, in a photo of (width, height) pixels.

    It has the proportions of the model's images, (height, width). A zoom of 1 is the largest box that fits, z one that
    is z times smaller; `across` and `down` are from -1 (left, upper edge) to 1. ValueError outside these ranges.
    """
    for name, value, low, high in (
        ("Zoom", zoom, 1.0, LARGEST_ZOOM),
        ("Left or right", across, -1.0, 1.0),
        ("Up or down", down, -1.0, 1.0),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} is {value:g}; it must be from {low:g} to {high:g}.")
    scale = min(size[0] / shape[1], size[1] / shape[0]) / zoom
    width, height = max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))
    left = round((size[0] - width) * (across + 1) / 2)
    top = round((size[1] - height) * (down + 1) / 2)
    return left, top, left + width, top + height


def frame_around(
    size: tuple[int, int], shape: tuple[int, int], zoom: float, point: tuple[float, float]
) -> tuple[float, float]:
    """Inverse of `frame`: `across` and `down`, to hundredths, of the box whose centre is nearest to a point."""
    box = frame(size, shape, zoom, 0, 0)
    places = []
    for axis in (0, 1):
        side = size[axis] - (box[axis + 2] - box[axis])
        place = 2 * (point[axis] - (box[axis] + box[axis + 2]) / 2) / side if side else 0.0
        places.append(round(max(-1.0, min(1.0, place)), 2))
    return places[0], places[1]


def frame_of_face(size: tuple[int, int], shape: tuple[int, int], place: Similarity) -> tuple[float, float, float]:
    """`zoom`, `across` and `down` of the upright box nearest to a model's frame around a face."""
    largest = min(size[0] / shape[1], size[1] / shape[0])
    zoom = round(min(max(largest / place.scale, 1.0), LARGEST_ZOOM), 2)
    centre = place(np.array([shape[1] / 2, shape[0] / 2]))
    return zoom, *frame_around(size, shape, zoom, (float(centre[0]), float(centre[1])))


def preview_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the preview of a photo of this width and height."""
    scale = min(1.0, PREVIEW_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def draw_frame(photo: PIL.Image.Image, box: tuple[int, int, int, int], hidden_half: str) -> PIL.Image.Image:
    """A preview of an RGB photo: dark outside the box, with the cut line and the hidden half shaded."""
    shown = photo.resize(preview_size(photo.size), reducing_gap=2.0)
    left, top, right, bottom = (round(side * shown.width / photo.width) for side in box)
    middle_x, middle_y = (left + right) // 2, (top + bottom) // 2
    hidden, line = {
        "bottom": ((left, middle_y, right, bottom), (left, middle_y, right, middle_y)),
        "top": ((left, top, right, middle_y), (left, middle_y, right, middle_y)),
        "right": ((middle_x, top, right, bottom), (middle_x, top, middle_x, bottom)),
        "left": ((left, top, middle_x, bottom), (middle_x, top, middle_x, bottom)),
    }[hidden_half]
    dark = PIL.Image.new("RGB", shown.size, "black")
    shade = PIL.Image.new("L", shown.size, 150)
    shade.paste(0, (left, top, right, bottom))
    shade.paste(100, hidden)
    shown = PIL.Image.composite(dark, shown, shade)
    pen = PIL.ImageDraw.Draw(shown)
    stroke = max(2, round(max(shown.size) / 220))
    pen.rectangle((left, top, right - 1, bottom - 1), outline=ACCENT, width=stroke)
    pen.line(line, fill=ACCENT, width=stroke)
    middle = ((hidden[0] + hidden[2]) / 2, (hidden[1] + hidden[3]) / 2)
    text_size = min((hidden[2] - hidden[0]) / 12, (hidden[3] - hidden[1]) / 3, 22)
    if text_size >= 9:
        pen.text(middle, LABEL, fill="white", anchor="mm", font_size=text_size, stroke_width=1, stroke_fill="black")
    return shown
