"""Colour consistency in CIELAB by region. Halves are (..., 3, h, w) in canonical orientation, the hidden one below."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import scipy.ndimage
import torch

from ...data.procedural import render
from ...data.procedural.factors import REGIONS, Factors
from .registry import DARK

BAND_SHARE = 8
"""The height of a half over this, at least 2, is the number of rows compared on each side of the seam."""
WHITE = (0.95047, 1.0, 1.08883)
"""CIE XYZ of D65, the white of sRGB."""
TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
MIN_PIXELS = 4
"""Smaller regions have no colour."""
CROWN_ROWS, CROWN_COLUMNS = (0.12, 0.32), (0.35, 0.65)
"""Where the crown is in the top half of an aligned face, in fractions of its height and width."""
ALIKE, LIGHTNESS_WEIGHT = 14.0, 0.5
"""Colours closer than this in CIELAB are alike; lightness has a smaller weight, since hair is shaded."""


def to_lab(rgb: torch.Tensor) -> torch.Tensor:
    """CIELAB (CIE 15, D65) of sRGB (IEC 61966-2-1) images (..., 3, h, w) in [0, 1]: L* from 0 to 100, a*, b*."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = rgb.new_tensor(TO_XYZ) / rgb.new_tensor(WHITE)[:, None]
    xyz = torch.einsum("ij,...jhw->...ihw", matrix, linear)
    cut = 6 / 29
    f = torch.where(xyz > cut**3, xyz.clamp(min=1e-12) ** (1 / 3), xyz / (3 * cut**2) + 4 / 29)
    x, y, z = f.unbind(dim=-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-3)


def lightness(rgb: np.ndarray) -> torch.Tensor:
    """Lightness L* of single colours, (N, 3) in [0, 1] to (N,)."""
    return to_lab(torch.from_numpy(rgb)[..., None, None])[:, 0, 0, 0]


def hue_difference(lab: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Signed hue difference Delta H* (...) of CIELAB colours (..., 3), positive from red towards yellow (Seve 1991).

    Unlike an angle, it is small for nearly grey colours.
    """
    (a1, b1), (a2, b2) = reference[..., 1:].unbind(dim=-1), lab[..., 1:].unbind(dim=-1)
    chromas = (a1**2 + b1**2).sqrt() * (a2**2 + b2**2).sqrt()
    norm = (0.5 * (chromas + a1 * a2 + b1 * b2)).clamp(min=1e-6).sqrt()
    return (a1 * b2 - a2 * b1) / norm


def band_rows(height: int) -> int:
    """Rows on each side of the seam that are compared, for halves of this height."""
    return min(height, max(2, height // BAND_SHARE))


def hair_like(known_lab: torch.Tensor) -> torch.Tensor:
    """Pixels (N, h, w) of top halves in CIELAB that are connected to the crown and have its colour: mostly hair.

    On omi_faces their lightness follows the rated hair colour (docs/evaluation.md); a background of the hair's colour
    that touches the hair is counted as hair.
    """
    height, width = known_lab.shape[-2:]
    top, bottom = round(CROWN_ROWS[0] * height), max(2, round(CROWN_ROWS[1] * height))
    left, right = round(CROWN_COLUMNS[0] * width), round(CROWN_COLUMNS[1] * width)
    crown = known_lab[..., top:bottom, left:right]
    middle = crown.flatten(2).median(dim=2).values[..., None, None]
    apart = (known_lab - middle) * known_lab.new_tensor((LIGHTNESS_WEIGHT, 1.0, 1.0))[:, None, None]
    alike = apart.square().sum(dim=1).sqrt() < ALIKE
    start = torch.zeros_like(alike)
    start[:, top:bottom, left:right] = True
    neighbours = np.ones((1, 3, 3), bool)
    grown = scipy.ndimage.binary_propagation((start & alike).numpy(), neighbours, mask=alike.numpy())
    return torch.from_numpy(grown)


def seam_regions(known_lab: torch.Tensor, height: int, upright: bool) -> dict[str, torch.Tensor]:
    """Regions (N, height, w) below the seam of photographs, by name, chosen from the known half alone.

    A calibrated sampler therefore shifts none of them. The seam of an aligned face runs through its eyes: the middle
    third of the columns is mostly skin (`centre`), the outer thirds are hair and background (`sides`). Upright faces
    also have `hair_like`, the columns of the sides that are so in all compared rows above the seam, and
    `dark_hair_like` where these are darker than `DARK`.
    """
    num, _, _, width = known_lab.shape
    rows, third = band_rows(height), width // 3
    sides = torch.ones(num, width, dtype=torch.bool)
    sides[:, third : width - third] = False
    columns = {"centre": ~sides, "sides": sides}
    if upright:
        columns["hair_like"] = sides & hair_like(known_lab)[:, -rows:].all(dim=1)
    band = torch.zeros(height, 1, dtype=torch.bool)
    band[:rows] = True
    regions = {name: chosen[:, None] & band for name, chosen in columns.items()}
    if upright:
        dark = lightness_above(known_lab, regions["hair_like"]) < DARK
        regions["dark_hair_like"] = regions["hair_like"] & dark[:, None, None]
    return regions


def lightness_above(known_lab: torch.Tensor, region: torch.Tensor | None) -> torch.Tensor:
    """Mean L* (N,) above the seam over the columns where a region touches it; NaN where it touches none."""
    if region is None:
        return known_lab.new_full((len(known_lab),), torch.nan)
    columns = region[:, 0]
    above = known_lab[:, 0, -band_rows(known_lab.shape[-2]) :].mean(dim=1)
    return (above * columns).sum(dim=1) / columns.sum(dim=1)


def region(factors: Factors, fields: tuple[str, ...], height: int, width: int) -> torch.Tensor:
    """Pixels (N, H/2, W) of the bottom halves of procedural faces that change with these fields of their factors."""
    black, white = (
        render(replace(factors, **dict.fromkeys(fields, np.full((len(factors), 3), level, np.float32))), height, width)
        for level in (0.0, 1.0)
    )
    change = (white.astype(np.int16) - black)[:, height // 2 :].min(axis=-1) / 255
    return torch.from_numpy(change > 0.5)


def procedural_regions(factors: Factors, determined: torch.Tensor, height: int, width: int) -> dict[str, torch.Tensor]:
    """Skin, hair, dark hair and background (N, H/2, W) in the bottom half, where the top half determines them."""
    regions = {name: region(factors, fields, height, width) & determined for name, fields in REGIONS.items()}
    return regions | {"dark_hair": regions["hair"] & (lightness(factors.hair) < DARK)[:, None, None]}


def region_colour(lab: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean colours (N, K, 3) of images (N, K, 3, h, w) in regions (N, h, w); NaN below `MIN_PIXELS` pixels."""
    size = mask.sum(dim=(-2, -1))
    total = torch.einsum("nkchw,nhw->nkc", lab, mask.to(lab))
    return total / torch.where(size < MIN_PIXELS, torch.nan, size.to(lab))[:, None, None]


def colour_scores(
    known_lab: torch.Tensor,
    hidden_lab: torch.Tensor,
    truth_lab: torch.Tensor,
    regions: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """`REGION_METRICS` (N,) by region, NaN for faces without the region.

    Halves are (N, 3, h, w), completions (N, K, 3, h, w), and regions masks below the seam, (N, h, w), chosen
    independently of the completions.
    """
    rows = band_rows(hidden_lab.shape[-2])
    above = known_lab[:, None, :, -rows:].mean(dim=-2)
    below = hidden_lab[..., :rows, :].mean(dim=-2)
    step = (below - above).square().sum(dim=2).sqrt()
    found: dict[str, torch.Tensor] = {}
    for name, mask in regions.items():
        shown, true = region_colour(hidden_lab, mask), region_colour(truth_lab[:, None], mask)
        columns = mask[:, :rows].all(dim=1)
        wide = torch.where(columns.sum(dim=1) < 2, torch.nan, columns.sum(dim=1).to(step))
        found[f"colour_error_{name}"] = (shown - true).square().sum(dim=-1).sqrt().mean(dim=1)
        found[f"seam_step_{name}"] = (step * columns[:, None]).sum(dim=2).mean(dim=1) / wide
        found[f"lightness_shift_{name}"] = (shown - true)[..., 0].mean(dim=1)
        found[f"hue_shift_{name}"] = hue_difference(shown, true).mean(dim=1)
    return found
