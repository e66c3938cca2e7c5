"""Colours in CIELAB and how they go on below the seam, by region. Halves are (..., 3, h, w) in the turned frame."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from ...data.procedural.factors import REGIONS, Factors
from ..trials import region

DARK = 30.0
"""Lightness L* below which hair counts as dark."""
BAND_SHARE = 8
"""Rows compared on each side of the seam: the height of a half over this, at least 2."""
WHITE = (0.95047, 1.0, 1.08883)
"""Of D65, the white of sRGB."""
TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
LEAST_PIXELS = 4
"""A region of fewer pixels has no colour."""
CROWN_ROWS, CROWN_COLUMNS = (0.12, 0.32), (0.35, 0.65)
"""Where the top half of an aligned face shows the crown of the head, in shares of its height and width."""
ALIKE, LIGHTNESS_WEIGHT = 14.0, 0.5
"""Colours this near in CIELAB are alike; lightness counts for less, since hair is shaded."""


def to_lab(rgb: torch.Tensor) -> torch.Tensor:
    """CIELAB (CIE 15, D65) of sRGB (IEC 61966-2-1).

    Args:
        rgb: (..., 3, h, w) in [0, 1].

    Returns:
        (..., 3, h, w): L* from 0 to 100, a*, b*.
    """
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = rgb.new_tensor(TO_XYZ) / rgb.new_tensor(WHITE)[:, None]
    xyz = torch.einsum("ij,...jhw->...ihw", matrix, linear)
    cut = 6 / 29
    f = torch.where(xyz > cut**3, xyz.clamp(min=1e-12) ** (1 / 3), xyz / (3 * cut**2) + 4 / 29)
    x, y, z = f.unbind(dim=-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-3)


def hue_difference(lab: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Signed hue difference Delta H* in units of L*, positive towards yellow from red (Seve 1991).

    Unlike an angle it is small where colours are nearly grey and hue means little.

    Args:
        lab: (..., 3).
        reference: (..., 3), broadcast against `lab`.

    Returns:
        (...).
    """
    (a1, b1), (a2, b2) = reference[..., 1:].unbind(dim=-1), lab[..., 1:].unbind(dim=-1)
    chromas = (a1**2 + b1**2).sqrt() * (a2**2 + b2**2).sqrt()
    norm = (0.5 * (chromas + a1 * a2 + b1 * b2)).clamp(min=1e-6).sqrt()
    return (a1 * b2 - a2 * b1) / norm


def band_rows(height: int) -> int:
    """Rows on each side of the seam that belong to it, for halves of this height."""
    return min(height, max(2, height // BAND_SHARE))


def hair_like(known_lab: torch.Tensor) -> torch.Tensor:
    """Pixels of an upright face's top half that join its crown in the crown's colour: hair, as far as that tells.

    On omi_faces the lightness read so follows the rated hair colour (docs/evaluation.md); a background of the hair's
    own colour that touches the hair is taken for hair.

    Args:
        known_lab: Top halves, (N, 3, h, w), in CIELAB.

    Returns:
        (N, h, w) booleans.
    """
    height, width = known_lab.shape[-2:]
    top, bottom = round(CROWN_ROWS[0] * height), max(2, round(CROWN_ROWS[1] * height))
    left, right = round(CROWN_COLUMNS[0] * width), round(CROWN_COLUMNS[1] * width)
    crown = known_lab[..., top:bottom, left:right]
    middle = crown.flatten(2).median(dim=2).values[..., None, None]
    apart = (known_lab - middle) * known_lab.new_tensor((LIGHTNESS_WEIGHT, 1.0, 1.0))[:, None, None]
    alike = apart.square().sum(dim=1).sqrt() < ALIKE
    grown = torch.zeros_like(alike)
    grown[:, top:bottom, left:right] = True
    grown &= alike
    while True:
        wider = (F.max_pool2d(grown[:, None].float(), 3, 1, 1)[:, 0] > 0) & alike
        if torch.equal(wider, grown):
            return grown
        grown = wider


def seam_regions(known_lab: torch.Tensor, height: int, upright: bool) -> dict[str, torch.Tensor]:
    """Regions below the seam of photographs, chosen by the known half alone: a calibrated sampler shifts none of them.

    The seam of an aligned face runs through its eyes: the middle third of the columns is mostly skin, the outer thirds
    are hair and background.

    Args:
        known_lab: Known halves, (N, 3, h, w), in CIELAB.
        height: Of a hidden half.
        upright: The known half is the top of a face, so that its crown is seen.

    Returns:
        `centre` and `sides`, for upright faces also the columns of the sides that are `hair_like` all through the rows
        above the seam, and `dark_hair_like` for faces where these are darker than `DARK`: (N, height, w) booleans.
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
    """Mean lightness just above the seam, over the columns where a region touches the seam.

    Args:
        known_lab: Known halves, (N, 3, h, w), in CIELAB.
        region: (N, H, w) booleans, below the seam; none gives no lightness.

    Returns:
        (N,) L*; NaN where the region does not touch the seam.
    """
    if region is None:
        return known_lab.new_full((len(known_lab),), torch.nan)
    columns = region[:, 0]
    lightness = known_lab[:, 0, -band_rows(known_lab.shape[-2]) :].mean(dim=1)
    return (lightness * columns).sum(dim=1) / columns.sum(dim=1)


def procedural_regions(factors: Factors, determined: torch.Tensor, height: int, width: int) -> dict[str, torch.Tensor]:
    """Where skin, hair and background show in the bottom half, among the pixels that the top half decides.

    Args:
        factors: Of N faces.
        determined: (N, H/2, W) booleans.
        height: Height of whole images in pixels.
        width: Width of whole images in pixels.

    Returns:
        `skin`, `hair`, `background`, and `dark_hair` for faces whose hair is drawn darker than `DARK`: (N, H/2, W).
    """
    regions = {name: region(factors, fields, height, width) & determined for name, fields in REGIONS.items()}
    hair = to_lab(torch.from_numpy(factors.hair)[..., None, None])[:, 0, 0, 0]
    return regions | {"dark_hair": regions["hair"] & (hair < DARK)[:, None, None]}


def region_colour(lab: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean colour of a region.

    Args:
        lab: (N, K, 3, h, w).
        mask: (N, h, w) booleans.

    Returns:
        (N, K, 3); NaN where the region has fewer than `LEAST_PIXELS` pixels.
    """
    size = mask.sum(dim=(-2, -1))
    total = torch.einsum("nkchw,nhw->nkc", lab, mask.to(lab))
    return total / torch.where(size < LEAST_PIXELS, torch.nan, size.to(lab))[:, None, None]


def colour_scores(
    known_lab: torch.Tensor,
    hidden_lab: torch.Tensor,
    truth_lab: torch.Tensor,
    regions: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """How completions continue colours, region by region.

    Args:
        known_lab: Known halves, (N, 3, h, w).
        hidden_lab: Completions, (N, K, 3, h, w).
        truth_lab: True hidden halves, (N, 3, h, w).
        regions: Masks below the seam, (N, h, w), chosen without looking at the completions.

    Returns:
        (N,) each, NaN for faces without the region: `colour_error_R`, Delta E*ab between the mean colours of the
        completed and the true region; `seam_step_R`, Delta E*ab across the seam, column by column where the region
        touches it; `lightness_shift_R` and `hue_shift_R`, completed minus true, signed.
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
