"""Where a model's picture lies in a photo: cut it out upright, and paste it back.

Coordinates are x, y in pixels from the top left corner of a picture; the middle of the first pixel is (0.5, 0.5).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F

from ..remote_code.halves import canonical_size, from_canonical

CELEBA_SIZE = (178, 218)
"""Width and height of CelebA's aligned pictures (Liu et al. 2015)."""
CELEBA_EYES = ((69.5, 111.5), (108.5, 111.5))
"""Where the eyes lie in them."""
OVERSAMPLING = 2
MASK_OVERSAMPLING = 4
SEAM_BLEND = 0.02
"""Over which part of the frame, on the known side of the seam, a pasted half sets in."""
EDGE_BLEND = 0.08
"""The same inside the outer edge, of the length of the seam."""

Box = tuple[int, int, int, int]
Resampling = PIL.Image.Resampling
AFFINE = PIL.Image.Transform.AFFINE


@dataclass(frozen=True)
class Similarity:
    """A turn, a scaling and a shift from the frame into the photo: z -> turn * z + shift on the points x + iy.

    Args:
        turn: Its modulus is the number of photo pixels per pixel of the frame, its argument the angle.
        shift: Where the frame's top left corner lies.
    """

    turn: complex
    shift: complex

    @property
    def scale(self) -> float:
        """Pixels of the photo per pixel of the frame."""
        return abs(self.turn)

    @property
    def inverse(self) -> "Similarity":
        """From the photo into the frame."""
        return Similarity(1 / self.turn, -self.shift / self.turn)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2) of the frame in the photo."""
        mapped = (points[..., 0] + 1j * points[..., 1]) * self.turn + self.shift
        return np.stack([mapped.real, mapped.imag], axis=-1)

    def after(self, first: "Similarity") -> "Similarity":
        """The map that applies `first` and then this one."""
        return Similarity(self.turn * first.turn, self.turn * first.shift + self.shift)

    def coefficients(self) -> tuple[float, float, float, float, float, float]:
        """As `PIL.Image.transform` takes them: of x' = a x + b y + c and y' = d x + e y + f."""
        return (self.turn.real, -self.turn.imag, self.shift.real, self.turn.imag, self.turn.real, self.shift.imag)


def similarity(source: np.ndarray, target: np.ndarray) -> Similarity:
    """The one similarity that maps two points to two others.

    Args:
        source: Two different points, (2, 2).
        target: What they are mapped to, (2, 2).

    Returns:
        The map.

    Raises:
        ValueError: If two points coincide.
    """
    (a, b), (a_mapped, b_mapped) = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    if a == b or a_mapped == b_mapped:
        raise ValueError(f"the eyes are {source.tolist()} and {target.tolist()}; they must be two different points")
    turn = (b_mapped - a_mapped) / (b - a)
    return Similarity(complex(turn), complex(a_mapped - turn * a))


def frame_eyes(config: Any) -> np.ndarray:
    """Where the eyes lie in a model's pictures.

    Args:
        config: Of a `HalfFaceInpaintPipeline`; without `eyes` its pictures are CelebA's, cut to its size.

    Returns:
        The left and the right one as they stand in the picture, (2, 2), in pixels of the model's picture.
    """
    size = np.array([config.width, config.height])
    eyes = config.get("eyes")
    if eyes is not None:
        return np.array(eyes, float).reshape(2, 2) * size
    width, height = CELEBA_SIZE
    scale = min(width / config.width, height / config.height)  # of the largest centred cut, as `resize_to` makes it
    return (np.array(CELEBA_EYES) - np.array(CELEBA_SIZE) / 2) / scale + size / 2


def centred_frame(size: tuple[int, int], height: int, width: int) -> Similarity:
    """The largest frame of this aspect in the middle of a picture of (width, height), as `resize_to` cuts it."""
    scale = min(size[0] / width, size[1] / height)
    return Similarity(complex(scale), complex((size[0] - scale * width) / 2, (size[1] - scale * height) / 2))


def cut_out(photo: PIL.Image.Image, place: Similarity, height: int, width: int) -> PIL.Image.Image:
    """The frame upright at the model's size, antialiased; beyond the photo its edge pixels go on.

    Args:
        photo: RGB.
        place: From the frame into the photo.
        height: Of the frame in pixels.
        width: Of the frame in pixels.

    Returns:
        RGB of size (width, height).
    """
    margin = math.ceil(4 * place.scale) + 2  # what the filters reach
    left, top, right, bottom = bounds(place, (0, 0, width, height), margin, photo.size)
    # Reduced before it is turned, because interpolation does not average over the pixels that it skips.
    reduction = max(1.0, place.scale / OVERSAMPLING)
    size = (max(1, round((right - left) / reduction)), max(1, round((bottom - top) / reduction)))
    region = photo.resize(size, Resampling.LANCZOS, (left, top, right, bottom), reducing_gap=3.0)
    columns, rows = np.meshgrid(_centres(width * OVERSAMPLING), _centres(height * OVERSAMPLING))
    points = place(np.stack([columns, rows], axis=-1) / OVERSAMPLING)
    unit = (points - (left, top)) / (right - left, bottom - top)
    grid = torch.from_numpy(2 * unit - 1).float()[None]
    pixels = torch.tensor(np.array(region)).permute(2, 0, 1)[None].float()
    turned = F.grid_sample(pixels, grid, mode="bicubic", padding_mode="border", align_corners=False)
    picture = PIL.Image.fromarray(turned[0].clamp(0, 255).round().byte().permute(1, 2, 0).contiguous().numpy())
    return picture.resize((width, height), Resampling.LANCZOS)


def paste(photo: PIL.Image.Image, picture: PIL.Image.Image, place: Similarity, hidden_half: str) -> PIL.Image.Image:
    """A photo with the hidden half of a model's picture in its place, blended at the seam and at the outer edge.

    Args:
        photo: RGB.
        picture: RGB, as the model made it.
        place: From the picture into the photo.
        hidden_half: `bottom`, `top`, `left` or `right`.

    Returns:
        A new photo; outside of the half and its seam the pixels are those of `photo`.
    """
    mask = _paste_mask(picture.height, picture.width, hidden_half)
    box = bounds(place, (0, 0, *picture.size), 2, photo.size)
    size = (box[2] - box[0], box[3] - box[1])
    back = place.inverse.after(Similarity(1, complex(box[0], box[1])))
    enlarged = picture.transform(size, AFFINE, back.coefficients(), Resampling.BICUBIC)
    finer = Similarity(MASK_OVERSAMPLING, 0).after(back)
    result = photo.copy()
    result.paste(enlarged, box, mask.transform(size, AFFINE, finer.coefficients(), Resampling.BILINEAR))
    return result


def fraction_inside(photo_size: tuple[int, int], place: Similarity, box: Box) -> float:
    """The fraction of a box of the frame (left, top, right, bottom) that lies in a photo of (width, height)."""
    left, top, right, bottom = box
    columns, rows = np.meshgrid(np.linspace(left, right, 33), np.linspace(top, bottom, 33))
    points = place(np.stack([columns, rows], axis=-1))
    return float(((points >= 0) & (points <= photo_size)).all(axis=-1).mean())


def _centres(number: int) -> np.ndarray:
    """Where the pixels of a row lie."""
    return np.arange(number) + 0.5


def _paste_mask(height: int, width: int, hidden_half: str) -> PIL.Image.Image:
    """How much of the model's picture is seen at each of its points, L of `MASK_OVERSAMPLING` times its size."""
    rows, columns = canonical_size(height, width, hidden_half)
    down = _centres(2 * rows * MASK_OVERSAMPLING) / MASK_OVERSAMPLING
    across = _centres(columns * MASK_OVERSAMPLING) / MASK_OVERSAMPLING
    seam, edge = SEAM_BLEND * 2 * rows, EDGE_BLEND * columns
    at_rows = np.minimum((down - rows + seam) / seam, (2 * rows - down) / edge)
    at_columns = np.minimum(across, columns - across) / edge
    weight = _smooth(at_rows)[:, None] * _smooth(at_columns)
    turned = from_canonical(torch.from_numpy(weight), hidden_half)
    return PIL.Image.fromarray((255 * turned).round().byte().contiguous().numpy())


def _smooth(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and smooth between."""
    x = x.clip(0, 1)
    return x * x * (3 - 2 * x)


def corners(place: Similarity, box: Box) -> np.ndarray:
    """Where the corners of a box of the frame lie in the photo, (4, 2), clockwise from the top left one."""
    left, top, right, bottom = box
    return place(np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float))


def bounds(place: Similarity, box: Box, margin: int, photo_size: tuple[int, int]) -> Box:
    """The smallest box of photo pixels, at least one, around a box of the frame and a margin, inside the photo."""
    points = corners(place, box)
    low, high = np.floor(points.min(0)) - margin, np.ceil(points.max(0)) + margin
    low = low.clip(0, np.array(photo_size) - 1)
    high = high.clip(low + 1, photo_size)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
