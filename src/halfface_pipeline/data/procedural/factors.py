"""Factors of procedural portraits, whose distribution given those of the top half is known exactly.

Every face is a function of independent uniform numbers by the rules below; there is no other randomness.

Seen in the top half (rows 0 .. H/2 - 1), all independent unless stated otherwise:
    skin               RGB in [0, 1] on a piecewise linear path from light to very dark, at a place uniform in [0, 1]
    hair               RGB in [0, 1], one of `HAIR_COLOURS` times uniform [0.9, 1.1]; weights `HAIR_WEIGHTS_LIGHT`
                       where the place on the skin line is under 0.6 and `HAIR_WEIGHTS_DARK` elsewhere
    iris               RGB in [0, 1], one of `IRIS_COLOURS`; weights by the same rule
    long_hair          1 with probability 0.5, else 0
    glasses            0 none, 1 round metal, 2 square dark, 3 tortoiseshell; probabilities `GLASSES_WEIGHTS`
    background_top     RGB in [0, 1]: hue, saturation, value uniform in [0, 1], [0.06, 0.4], [0.6, 0.98]
    background_bottom  the same with hue + uniform [-0.12, 0.12] and value times uniform [0.6, 0.9]
    all other fields   uniform over `SEEN_RANGES`

Free given the top half (they depend on the seen factors through `long_hair` alone):
    mouth_gap          0 (closed) with probability 0.5, else uniform [0.4, 1]
    smile              uniform [0, 1]
    lipstick           with long hair: uniform [0.5, 1] with probability 0.55, else 0; with short hair: 0
    beard              with short hair: uniform [0.35, 1] with probability 0.45, else 0; with long hair: 0
    clothing           RGB in [0, 1], one of `CLOTHING_COLOURS`, equally probable, times uniform [0.9, 1.1]
    neckline           index into `NECKLINES`; probabilities `NECKLINE_WEIGHTS`
    jaw                uniform [-1, 1], from square to pointed
    hair_end           with long hair: uniform [0.7, 1.05], the row where it ends over the height; with short hair: 0
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

HAIR_COLOURS = {
    "black": (0.10, 0.09, 0.10),
    "dark brown": (0.22, 0.14, 0.10),
    "brown": (0.38, 0.24, 0.15),
    "auburn": (0.52, 0.22, 0.12),
    "blond": (0.80, 0.62, 0.36),
    "grey": (0.62, 0.61, 0.61),
}
HAIR_WEIGHTS_LIGHT = (0.20, 0.26, 0.20, 0.10, 0.16, 0.08)
HAIR_WEIGHTS_DARK = (0.58, 0.28, 0.06, 0.0, 0.0, 0.08)
IRIS_COLOURS = {
    "brown": (0.34, 0.19, 0.09),
    "hazel": (0.46, 0.34, 0.14),
    "green": (0.30, 0.47, 0.27),
    "blue": (0.24, 0.46, 0.70),
    "grey": (0.42, 0.50, 0.55),
}
IRIS_WEIGHTS_LIGHT = (0.40, 0.14, 0.14, 0.22, 0.10)
IRIS_WEIGHTS_DARK = (0.90, 0.10, 0.0, 0.0, 0.0)
CLOTHING_COLOURS = {
    "charcoal": (0.20, 0.20, 0.23),
    "grey": (0.55, 0.57, 0.60),
    "white": (0.88, 0.87, 0.84),
    "navy": (0.16, 0.23, 0.40),
    "teal": (0.14, 0.45, 0.45),
    "burgundy": (0.52, 0.16, 0.20),
    "rose": (0.80, 0.52, 0.55),
    "mustard": (0.78, 0.60, 0.22),
}
GLASSES = ("none", "round metal", "square dark", "tortoiseshell")
GLASSES_WEIGHTS = (0.76, 0.08, 0.08, 0.08)
NECKLINES = ("crew", "v", "collar", "high")
NECKLINE_WEIGHTS = (0.34, 0.26, 0.24, 0.16)
SEEN_RANGES = {
    "hair_volume": (0.0, 1.0),
    "parting": (-1.0, 1.0),
    "fringe": (0.0, 1.0),
    "hair_wave": (0.0, 1.0),
    "head_width": (0.238, 0.272),
    "shift_x": (-0.025, 0.025),
    "shift_y": (-0.012, 0.012),
    "roll": (-0.13, 0.13),
    "yaw": (-1.0, 1.0),
    "light_x": (-0.9, 0.9),
    "light_y": (-0.7, -0.2),
    "background_slope": (-0.6, 0.6),
    "brow_thickness": (0.0, 1.0),
    "brow_arch": (0.0, 1.0),
}
SKIN_PLACES = (0.0, 0.17, 0.34, 0.5, 0.67, 0.84, 1.0)
SKIN_COLOURS = (
    (0.98, 0.87, 0.80),
    (0.95, 0.80, 0.69),
    (0.89, 0.70, 0.56),
    (0.80, 0.59, 0.44),
    (0.66, 0.44, 0.31),
    (0.48, 0.31, 0.22),
    (0.33, 0.21, 0.16),
)
DARK_SKIN_FROM = 0.6
SEEN: tuple[str, ...] = (
    *("skin", "hair", "iris", "long_hair", "glasses", "background_top", "background_bottom"),
    *SEEN_RANGES,
)
FREE: tuple[str, ...] = ("mouth_gap", "smile", "lipstick", "beard", "clothing", "neckline", "jaw", "hair_end")
REGIONS = {"skin": ("skin",), "hair": ("hair",), "background": ("background_top", "background_bottom")}
"""The fields that give each coloured region of a face its colour."""
SEEN_DRAWS = 11 + len(SEEN_RANGES)
FREE_DRAWS = 10


@dataclass(frozen=True)
class Factors:
    """The factors of N faces; the module's docstring gives the distribution of each field.

    Every field is a float32 array of shape (N,), or (N, 3) for the RGB colours. Lengths are fractions of the image
    height, `roll` is in radians (positive tilts the head clockwise); `yaw`, `parting` and `light_x` grow rightwards.
    """

    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    long_hair: np.ndarray
    glasses: np.ndarray
    background_top: np.ndarray
    background_bottom: np.ndarray
    hair_volume: np.ndarray
    parting: np.ndarray
    fringe: np.ndarray
    hair_wave: np.ndarray
    head_width: np.ndarray
    shift_x: np.ndarray
    shift_y: np.ndarray
    roll: np.ndarray
    yaw: np.ndarray
    light_x: np.ndarray
    light_y: np.ndarray
    background_slope: np.ndarray
    brow_thickness: np.ndarray
    brow_arch: np.ndarray
    mouth_gap: np.ndarray
    smile: np.ndarray
    lipstick: np.ndarray
    beard: np.ndarray
    clothing: np.ndarray
    neckline: np.ndarray
    jaw: np.ndarray
    hair_end: np.ndarray

    def __len__(self) -> int:
        return len(self.skin)

    def __getitem__(self, index: int | slice | np.ndarray | Sequence[int]) -> "Factors":
        """The selected faces (integer, slice, integer array or bool mask); always keeps the first axis."""
        chosen = np.atleast_1d(np.arange(len(self))[index])
        return Factors(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


def draw_factors(seed: int, indices: Sequence[int] | np.ndarray) -> Factors:
    """Samples the factors of the faces with the given indices.

    Args:
        seed: Seed of the set, at least 0.
        indices: Numbers of the faces in the set, each at least 0; face i depends on (seed, i) alone.

    Returns:
        Factors of length len(indices).

    Raises:
        ValueError: The seed or an index is negative, or there is no index.
    """
    numbers = np.asarray(indices, dtype=np.int64).reshape(-1)
    at_least("seed", seed, 0)
    at_least("number of indices", len(numbers), 1)
    at_least("index", int(numbers.min()), 0)
    draws = SEEN_DRAWS + FREE_DRAWS
    uniforms = np.stack([np.random.default_rng([seed, int(number)]).random(draws) for number in numbers])
    seen = _seen_factors(uniforms[:, :SEEN_DRAWS])
    return _as_factors(seen | _free_factors(uniforms[:, SEEN_DRAWS:], seen["long_hair"]))


def resample_free(factors: Factors, generator: np.random.Generator) -> Factors:
    """Samples the free factors again: an exact sample of p(bottom half | top half) for every face.

    Args:
        factors: N faces, not modified.
        generator: Source of the random numbers.

    Returns:
        Factors of length N, the fields named in `SEEN` equal to those given.
    """
    free = _free_factors(generator.random((len(factors), FREE_DRAWS)), factors.long_hair)
    return replace(factors, **{name: values.astype(np.float32) for name, values in free.items()})


def records(factors: Factors) -> list[dict[str, float | int | bool | str]]:
    """One flat, JSON-able dictionary per face: colours as "#rrggbb", kinds by name, numbers rounded to 6 decimals."""
    return [
        {field.name: _plain(field.name, getattr(factors, field.name)[row]) for field in fields(factors)}
        for row in range(len(factors))
    ]


def _plain(name: str, value: np.ndarray) -> float | int | bool | str:
    if value.ndim:
        return "#" + "".join(f"{int(part):02x}" for part in np.rint(value * 255))
    if name == "long_hair":
        return bool(value)
    if name == "glasses":
        return GLASSES[int(value)]
    if name == "neckline":
        return NECKLINES[int(value)]
    return round(float(value), 6)


def _seen_factors(uniforms: np.ndarray) -> dict[str, np.ndarray]:
    # Columns: 0 skin, 1 hair, 2 iris, 3 to 7 background, 8 shade of the hair, 9 long hair, SEEN_RANGES, glasses.
    place = uniforms[:, 0]
    dark = place >= DARK_SKIN_FROM
    hair = np.where(dark, _choice(uniforms[:, 1], HAIR_WEIGHTS_DARK), _choice(uniforms[:, 1], HAIR_WEIGHTS_LIGHT))
    iris = np.where(dark, _choice(uniforms[:, 2], IRIS_WEIGHTS_DARK), _choice(uniforms[:, 2], IRIS_WEIGHTS_LIGHT))
    hue, saturation = uniforms[:, 3], 0.06 + 0.34 * uniforms[:, 4]
    value = 0.6 + 0.38 * uniforms[:, 5]
    hue_below, value_below = hue + 0.24 * (uniforms[:, 6] - 0.5), value * (0.6 + 0.3 * uniforms[:, 7])
    ranges = {
        name: low + (high - low) * uniforms[:, column]
        for column, (name, (low, high)) in enumerate(SEEN_RANGES.items(), start=10)
    }
    return ranges | {
        "skin": np.stack([np.interp(place, SKIN_PLACES, part) for part in zip(*SKIN_COLOURS, strict=True)], axis=1),
        "hair": np.array(list(HAIR_COLOURS.values()))[hair] * (0.9 + 0.2 * uniforms[:, 8:9]),
        "iris": np.array(list(IRIS_COLOURS.values()))[iris],
        "background_top": _hsv_to_rgb(hue, saturation, value),
        "background_bottom": _hsv_to_rgb(hue_below, saturation, value_below),
        "long_hair": uniforms[:, 9] < 0.5,
        "glasses": _choice(uniforms[:, 10 + len(SEEN_RANGES)], GLASSES_WEIGHTS),
    }


def _free_factors(uniforms: np.ndarray, long_hair: np.ndarray) -> dict[str, np.ndarray]:
    long = long_hair > 0.5
    clothing = _choice(uniforms[:, 7], [1 / len(CLOTHING_COLOURS)] * len(CLOTHING_COLOURS))
    return {
        "mouth_gap": np.where(uniforms[:, 0] < 0.5, 0.4 + 0.6 * uniforms[:, 1], 0.0),
        "smile": uniforms[:, 2],
        "lipstick": np.where(long & (uniforms[:, 3] < 0.55), 0.5 + 0.5 * uniforms[:, 4], 0.0),
        "beard": np.where(~long & (uniforms[:, 3] < 0.45), 0.35 + 0.65 * uniforms[:, 4], 0.0),
        "clothing": np.array(list(CLOTHING_COLOURS.values()))[clothing] * (0.9 + 0.2 * uniforms[:, 8:9]),
        "neckline": _choice(uniforms[:, 9], NECKLINE_WEIGHTS),
        "jaw": 2.0 * uniforms[:, 5] - 1.0,
        "hair_end": np.where(long, 0.7 + 0.35 * uniforms[:, 6], 0.0),
    }


def _as_factors(values: dict[str, np.ndarray]) -> Factors:
    return Factors(**{name: np.ascontiguousarray(part, dtype=np.float32) for name, part in values.items()})


def _choice(uniforms: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    return np.minimum(np.searchsorted(np.cumsum(weights), uniforms, side="right"), len(weights) - 1)


def _hsv_to_rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """RGB (N, 3) in [0, 1] of hue (any real, period 1), saturation and value in [0, 1], each (N,)."""
    sector = (np.array([5.0, 3.0, 1.0]) + 6.0 * hue[:, None]) % 6.0
    ramp = np.clip(np.minimum(sector, 4.0 - sector), 0.0, 1.0)
    return value[:, None] * (1.0 - saturation[:, None] * ramp)


def at_least(name: str, value: int, least: int) -> None:
    """Raises `ValueError` if the named value is below the least one allowed."""
    if value < least:
        raise ValueError(f"{name} is {value}; it must be at least {least}")
