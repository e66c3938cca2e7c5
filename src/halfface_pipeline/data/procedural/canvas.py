"""Coordinates of the scene, soft shapes and flat colours for the procedural portraits.

Arrays have the layout of `renderer`, and its rule holds here too: only arithmetic and square roots.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import SimpleNamespace

import numpy as np

from .factors import Factors

EYE_ROW = 0.44
SHADOW_TINT = (0.60, 0.47, 0.43)


@dataclass(frozen=True)
class Scene:
    """Coordinates in fractions of the image height: on the image (u, v), and on the head from between the eyes (x, y).

    Args:
        f: the factors, shaped (N, 1, 1), or (3, N, 1, 1) for colours.
        pixel: the size of one pixel.
        u: columns from the middle, (1, 1, W).
        v: rows from the top, (1, H, 1).
        x: across the head, (N, H, W).
        y: down the head from the eyes, (N, H, W).
        face_x: x as the turned face's features see it, (N, H, W).
        nose_x: the same for the nose, which stands out further.
        body_x: columns from the middle of the neck, (N, 1, W).
        onset: 0 above the cut, growing smoothly to 1 below it, (1, H, 1).
        light: direction towards the light, three arrays (N, 1, 1), length 1.
    """

    f: SimpleNamespace
    pixel: float
    u: np.ndarray
    v: np.ndarray
    x: np.ndarray
    y: np.ndarray
    face_x: np.ndarray
    nose_x: np.ndarray
    body_x: np.ndarray
    onset: np.ndarray
    light: tuple[np.ndarray, np.ndarray, np.ndarray]

    def rows(self, first: float, last: float) -> tuple[slice, Scene]:
        """The rows between two fractions of the height, and the scene on them alone."""
        height = self.v.shape[1]
        chosen = slice(int(first * height), min(height, int(np.ceil(last * height))))
        cut = {name: getattr(self, name)[:, chosen] for name in ("v", "x", "y", "face_x", "nose_x", "onset")}
        return chosen, Scene(self.f, self.pixel, self.u, body_x=self.body_x, light=self.light, **cut)


def build_scene(factors: Factors, height: int, width: int) -> Scene:
    """Lay out the scene of N faces on an image of this size."""
    values = {}
    for field in fields(factors):
        value = getattr(factors, field.name)
        values[field.name] = value[:, None, None] if value.ndim == 1 else value.T[:, :, None, None]
    f = SimpleNamespace(**values)
    u = (((np.arange(width) + 0.5) - width / 2) / height).astype(np.float32)[None, None]
    v = ((np.arange(height) + 0.5) / height).astype(np.float32)[None, :, None]
    sine = f.roll - f.roll * f.roll * f.roll / 6.0
    cosine = np.sqrt(1.0 - sine * sine)
    across, down = u - f.shift_x, v - (EYE_ROW + f.shift_y)
    x = across * cosine + down * sine
    y = down * cosine - across * sine
    shift = 0.045 * f.yaw * np.maximum(1.0 - squared(x / f.head_width), 0.0)
    below = np.clip((v - 0.5) / 0.2, 0.0, 1.0)
    length = np.sqrt(squared(f.light_x) + squared(f.light_y) + 0.64)
    light = (f.light_x / length, f.light_y / length, 0.8 / length)
    body_x = u - f.shift_x + 0.40 * sine
    return Scene(f, 1.0 / height, u, v, x, y, x - shift, x - 1.5 * shift, body_x, _smooth(below), light)


def squared(value: np.ndarray) -> np.ndarray:
    """The value times itself."""
    return value * value


def flag(condition: np.ndarray) -> np.ndarray:
    """1 where true, 0 elsewhere."""
    return condition.astype(np.float32)


def one_colour(rgb: tuple[float, float, float]) -> np.ndarray:
    """One colour for all faces, (3, 1, 1, 1)."""
    return np.array(rgb, np.float32)[:, None, None, None]


def _smooth(share: np.ndarray) -> np.ndarray:
    return share * share * (3.0 - 2.0 * share)


def ramp(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below low, 1 above high, smooth between."""
    return _smooth(np.clip((value - low) * (1.0 / (high - low)), 0.0, 1.0))


def wave(turns: np.ndarray) -> np.ndarray:
    """A smooth wave between -1 and 1 with period 1."""
    rest = turns - np.floor(turns)
    return 32.0 * squared(rest * (1.0 - rest)) - 1.0


def fill(distance: np.ndarray, soft: float) -> np.ndarray:
    """Coverage of a shape from its signed distance (negative inside), the edge spread over about `soft`."""
    return _smooth(np.clip(0.5 - distance * (0.7 / soft), 0.0, 1.0))


def band(value: np.ndarray, low: np.ndarray, high: np.ndarray, soft: float) -> np.ndarray:
    """Coverage of low < value < high, right for bands thinner than a pixel too; 0 where high is under low."""
    return np.maximum(fill(value - high, soft) - fill(value - low, soft), 0.0)


def blob(x: np.ndarray, y: np.ndarray, across: float, down: float) -> np.ndarray:
    """A soft round weight, 1 at the origin and 0 outside the ellipse with these half axes."""
    return squared(np.maximum(1.0 - squared(x * (1.0 / across)) - squared(y * (1.0 / down)), 0.0))


def oval(
    x: np.ndarray, y: np.ndarray, across: np.ndarray | float, down: float, pointed: np.ndarray | float = 0.0
) -> np.ndarray:
    """Signed distance (right near the edge) of an ellipse; `pointed` makes it a diamond, under 0 a rectangle."""
    across_square, down_square = squared(x / across), squared(y / down)
    bend = 1.0 + pointed * np.minimum(down_square, 1.5)
    slope_x = x / (across * across) * bend
    slope_y = y / (down * down) * (1.0 + pointed * np.minimum(across_square, 1.5))
    level = across_square * bend + down_square - 1.0
    return 0.5 * level / (np.sqrt(squared(slope_x) + squared(slope_y)) + 1e-3)


def mix(image: np.ndarray, colour: np.ndarray | tuple[float, float, float], coverage: np.ndarray) -> None:
    """Lay a colour, (3, N, ...) or one for all, over the image in place."""
    if isinstance(colour, tuple):
        colour = one_colour(colour)
    image += (colour - image) * coverage


def darken(image: np.ndarray, coverage: np.ndarray, tint: tuple[float, float, float] = SHADOW_TINT) -> None:
    """Multiply the image by a tint where covered, in place."""
    for channel, part in zip(image, tint, strict=True):
        channel *= 1.0 - (1.0 - part) * coverage
