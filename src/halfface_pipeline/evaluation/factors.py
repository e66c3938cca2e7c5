"""Free factors of procedural faces, predicted from completions by comparison with templates.

A completion is compared with drawings of the same face that show every class of a factor and varied values of the
others. It gets the class of the nearest drawing over the pixels that the factor changes. The accuracy is measured on
faces whose factors are known.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from ..data.procedural import render
from ..data.procedural.factors import (
    CLOTHING_COLOURS,
    HAIR_COLOURS,
    NECKLINE_WEIGHTS,
    NECKLINES,
    Factors,
    resample_free,
)

CLASSES: dict[str, dict[str, float]] = {
    "clothing": dict.fromkeys(CLOTHING_COLOURS, 1 / len(CLOTHING_COLOURS)),
    "neckline": dict(zip(NECKLINES, NECKLINE_WEIGHTS, strict=True)),
    "mouth": {"closed": 0.5, "open": 0.5},
    "beard": {"none": 0.55, "beard": 0.45},
    "lipstick": {"none": 0.45, "lipstick": 0.55},
}
"""Classes of the free factors with their probabilities, of beards given short hair, of lipstick given long hair."""
NUM_TEMPLATES = len(CLOTHING_COLOURS) * len(NECKLINES)
MAX_HEIGHT = 64
"""Higher faces are drawn and compared at an integer fraction of their size."""
MIN_CHANGE = 0.02
"""A factor is compared over pixels that it changes by more than this, on a scale from 0 to 1."""


@dataclass(frozen=True, eq=False)
class Templates:
    """R drawings of each of N faces, with every class of every free factor among them.

    Args:
        images: Bottom halves, (N, R, P) float32 in [0, 1], P pixel values.
        labels: Indices into `CLASSES` by factor, (N, R); -1 where the factor does not apply.
        shown: Pixel values that each factor changes, (N, P) booleans.
        size: Height and width of the bottom halves.
    """

    images: torch.Tensor
    labels: dict[str, torch.Tensor]
    shown: dict[str, torch.Tensor]
    size: tuple[int, int]


def hair_colours(factors: Factors) -> list[str]:
    """The name of each face's hair colour, whatever its brightness."""
    names = list(HAIR_COLOURS)
    return [names[index] for index in _nearest_colour(factors.hair, list(HAIR_COLOURS.values()))]


def _nearest_colour(colours: np.ndarray, palette: list[tuple[float, float, float]]) -> np.ndarray:
    """Indices of colours (N, 3) in a palette, whatever their brightness: the ratio to it is equal in all channels."""
    return (colours[:, None] / np.array(palette)).std(axis=-1).argmin(axis=-1)


def labels_of(factors: Factors) -> dict[str, np.ndarray]:
    """The classes of the free factors of N faces, (N,) each; -1 where a factor does not apply."""
    long = factors.long_hair > 0.5
    return {
        "clothing": _nearest_colour(factors.clothing, list(CLOTHING_COLOURS.values())),
        "neckline": factors.neckline.astype(int),
        "mouth": (factors.mouth_gap > 0).astype(int),
        "beard": np.where(long, -1, factors.beard > 0),
        "lipstick": np.where(long, factors.lipstick > 0, -1),
    }


def draw_templates(factors: Factors, height: int, width: int, seed: int = 0) -> Templates:
    """Draws N faces of this size with every clothing colour and neckline, half with open mouths, beards, lipstick."""
    shrink = _shrink(height, width)
    size = height // shrink, width // shrink
    generator = np.random.default_rng([seed, 1])
    num, colours = len(factors), np.array(list(CLOTHING_COLOURS.values()), np.float32)
    images, labels = [], []
    for place in range(NUM_TEMPLATES):
        number, neckline = place % len(colours), place // len(colours)
        depths = generator.random((2, num), np.float32)
        drawn = replace(
            resample_free(factors, generator),
            clothing=colours[number] * (0.9 + 0.2 * generator.random((num, 1), np.float32)),
            neckline=np.full(num, neckline, np.float32),
            # All four combinations of open or closed, marked or not occur eight times.
            **_mouth(factors, (place + neckline) % 2, (place // 2 + neckline) % 2, *depths),
        )
        images.append(_bottoms(drawn, size))
        labels.append(labels_of(drawn))
    named = {name: torch.from_numpy(np.stack([label[name] for label in labels], axis=1)) for name in CLASSES}
    return Templates(torch.stack(images, dim=1), named, _shown(factors, size), (size[0] // 2, size[1]))


def _mouth(factors: Factors, opened: int, marked: int, gap: np.ndarray, depth: np.ndarray) -> dict[str, np.ndarray]:
    """An open or closed mouth, with or without the beard or lipstick that the hair allows."""
    long = factors.long_hair > 0.5
    return {
        "mouth_gap": opened * (0.4 + 0.6 * gap),
        "beard": np.where(long, 0, marked * (0.35 + 0.65 * depth)).astype(np.float32),
        "lipstick": np.where(long, marked * (0.5 + 0.5 * depth), 0).astype(np.float32),
    }


def _bottoms(factors: Factors, size: tuple[int, int]) -> torch.Tensor:
    """Bottom halves as vectors, (N, P) in [0, 1]."""
    halves = torch.from_numpy(render(factors, *size)[:, size[0] // 2 :])
    return (halves.permute(0, 3, 1, 2) / 255).flatten(1)


def _shown(factors: Factors, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """The pixel values that each free factor changes, everything else equal."""
    num, half = len(factors), np.full(len(factors), 0.5, np.float32)
    plain = replace(factors, neckline=0 * half, clothing=np.full((num, 3), 0.5, np.float32), jaw=0 * half)

    def drawn(opened: int, marked: int, **changed: np.ndarray) -> torch.Tensor:
        return _bottoms(replace(plain, **_mouth(factors, opened, marked, half, half), **changed), size)

    mouths = {(opened, marked): drawn(opened, marked) for opened in (0, 1) for marked in (0, 1)}
    necklines = [mouths[0, 0], *(drawn(0, 0, neckline=0 * half + kind) for kind in range(1, len(NECKLINES)))]
    marked = torch.maximum((mouths[0, 1] - mouths[0, 0]).abs(), (mouths[1, 1] - mouths[1, 0]).abs())
    between = torch.stack(necklines)
    changes = {
        "clothing": (drawn(0, 0, clothing=np.ones((num, 3), np.float32)) - mouths[0, 0]).abs(),
        "neckline": between.amax(dim=0) - between.amin(dim=0),
        "mouth": (mouths[1, 0] - mouths[0, 0]).abs(),
        "beard": marked,
        "lipstick": marked,
    }
    return {name: change > MIN_CHANGE for name, change in changes.items()}


def predict_factors(templates: Templates, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
    """Predicts the class (N, K) of each free factor of halves (N, K, 3, h, w) uint8; -1 where it does not apply."""
    pixels = (
        F.adaptive_avg_pool2d((hidden / 255).flatten(0, 1), templates.size).flatten(1).unflatten(0, hidden.shape[:2])
    )
    found = {}
    for name, labels in templates.labels.items():
        shown = templates.shown[name].float()
        nearest = torch.cdist(pixels * shown[:, None], templates.images * shown[:, None]).argmin(dim=-1)
        found[name] = labels.gather(1, nearest)
    return found


def _shrink(height: int, width: int) -> int:
    """The smallest divisor of the size that gives at most `MAX_HEIGHT` and a size that can be drawn and halved."""
    fits = [n for n in range(1, height // 16 + 1) if height % (2 * n) == 0 and width % n == 0 and width // n >= 16]
    return next((n for n in fits if height // n <= MAX_HEIGHT), fits[-1])
