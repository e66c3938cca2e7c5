"""Procedural portraits whose conditional distribution p(bottom half | top half) is known exactly.

`factors` documents the distribution; a top half shows the factors named in `SEEN`, and no others.
"""

import numpy as np

from .factors import Factors, at_least, draw_factors
from .renderer import draw_faces

PIXELS_PER_CHUNK = 32768


def render(factors: Factors, height: int, width: int) -> np.ndarray:
    """Renders N faces; the top half depends on the fields named in `SEEN` alone, bit for bit.

    Args:
        factors: N faces; a face's pixels do not depend on the others.
        height: Image height in pixels, even, at least 16.
        width: Image width in pixels, at least 16; portraits are designed for a height of about 1.2 times the width.

    Returns:
        uint8 array (N, height, width, 3), RGB.

    Raises:
        ValueError: The height or width is too small, or the height is odd.
    """
    _check_size(height, width)
    images = np.empty((len(factors), height, width, 3), np.uint8)
    step = max(1, PIXELS_PER_CHUNK // (height * width))
    for first in range(0, len(factors), step):
        images[first : first + step] = draw_faces(factors[first : first + step], height, width)
    return images


def faces(num: int, height: int, width: int, seed: int = 0, start: int = 0) -> tuple[np.ndarray, Factors]:
    """Renders faces start .. start + num - 1 of the set with the given seed.

    Args:
        num: Number of faces, at least 1.
        height: Image height in pixels, even, at least 16.
        width: Image width in pixels, at least 16.
        seed: Seed of the set, at least 0.
        start: Number of the first face, at least 0.

    Returns:
        The images, uint8 (num, height, width, 3), RGB, and their factors.

    Raises:
        ValueError: An argument is out of range.
    """
    at_least("num", num, 1)
    at_least("start", start, 0)
    _check_size(height, width)
    factors = draw_factors(seed, np.arange(start, start + num))
    return render(factors, height, width), factors


def _check_size(height: int, width: int) -> None:
    at_least("height", height, 16)
    at_least("width", width, 16)
    if height % 2:
        raise ValueError(f"height is {height}; it must be even, for the cut at half of it")
