"""Colours, regions and shifts whose values are known."""

import math

import numpy as np
import pytest
import torch

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data.procedural import render
from halfface_pipeline.evaluation.dataset import draw_exact_samples, factors_of
from halfface_pipeline.evaluation.metrics.colour import (
    band_rows,
    colour_scores,
    hair_like,
    hue_difference,
    lightness_above,
    procedural_regions,
    region,
    region_colour,
    seam_regions,
    to_lab,
)
from halfface_pipeline.evaluation.metrics.pixel import determined_pixels
from halfface_pipeline.evaluation.metrics.registry import DARK


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
        ((119 / 255,) * 3, (50.03, 0, 0)),
    ],
)
def test_lab_of_known_colours(rgb, lab):
    found = to_lab(torch.tensor(rgb, dtype=torch.float32)[:, None, None])
    assert found[:, 0, 0].tolist() == pytest.approx(lab, abs=0.02)


def test_hue_difference_is_the_chord_between_colours_of_one_chroma_and_is_signed():
    red, turned = torch.tensor([50.0, 40.0, 0.0]), torch.tensor([30.0, 40 * math.cos(0.3), 40 * math.sin(0.3)])
    assert float(hue_difference(turned, red)) == pytest.approx(2 * 40 * math.sin(0.15), rel=1e-4)
    assert float(hue_difference(red, turned)) == pytest.approx(-2 * 40 * math.sin(0.15), rel=1e-4)
    assert float(hue_difference(red * 2, red)) == 0


def grey(lightness):
    """The sRGB grey of some lightness L*."""
    y = ((lightness + 16) / 116) ** 3
    return 1.055 * y ** (1 / 2.4) - 0.055


def photo(hair=20, height=32, width=30):
    """A head: a crown and hair falling down the sides of one lightness, a light face, a lighter background."""
    known = torch.full((1, 3, height, width), grey(90))
    known[:, :, 3:, 5:25] = grey(hair)
    known[:, :, 14:, 9:21] = grey(75)
    return known


def test_hair_is_what_joins_the_crown_in_its_colour():
    known = photo()
    known[:, :, 25:, 0:2] = grey(20)  # as dark, and not joined
    found = hair_like(to_lab(known))[0]
    assert bool(found[4:, 5:9].all()) and bool(found[4:, 21:25].all()) and bool(found[4:14, 9:21].all())
    assert int(found.sum()) == 29 * 20 - 18 * 12


def test_regions_of_photographs_are_bands_below_the_seam():
    known = to_lab(torch.cat([photo(), photo(hair=45)]))
    regions = seam_regions(known, 32, upright=True)
    rows = band_rows(32)
    assert rows == 4 and not any(bool(mask[:, rows:].any()) for mask in regions.values())
    assert int(regions["centre"][0].sum()) == 10 * rows and int(regions["sides"][0].sum()) == 20 * rows
    columns = regions["hair_like"][0, 0].nonzero().flatten().tolist()
    assert columns == [5, 6, 7, 8, 21, 22, 23, 24]
    assert torch.equal(regions["dark_hair_like"][0], regions["hair_like"][0])
    assert bool(regions["hair_like"][1].any()) and not bool(regions["dark_hair_like"][1].any())
    assert lightness_above(known, regions["hair_like"]).tolist() == pytest.approx([20, 45], abs=0.1)
    assert set(seam_regions(known, 32, upright=False)) == {"centre", "sides"}


def test_dark_hair_continued_lighter_is_read_exactly():
    known = photo()
    truth = known[:, :, -1:].expand(-1, -1, 32, -1).clone()
    completed = truth[:, None].repeat(1, 2, 1, 1, 1)
    completed[:, 1][truth == grey(20)] = grey(26)
    lab = [to_lab(image) for image in (known, completed, truth)]
    found = colour_scores(*lab, seam_regions(lab[0], 32, upright=True))
    assert float(found["lightness_shift_dark_hair_like"]) == pytest.approx(3, abs=0.01)  # one of two, by 6
    assert float(found["colour_error_dark_hair_like"]) == pytest.approx(3, abs=0.01)
    assert float(found["seam_step_dark_hair_like"]) == pytest.approx(3, abs=0.01)
    assert float(found["lightness_shift_centre"]) == pytest.approx(0, abs=1e-4)
    assert float(found["seam_step_centre"]) == pytest.approx(0, abs=1e-4)


def test_hue_shifts_are_signed():
    known = torch.tensor([0.6, 0.4, 0.4])[:, None, None].expand(1, 3, 16, 16)
    yellower = torch.tensor([0.6, 0.45, 0.3])[:, None, None].expand(1, 1, 3, 16, 16)
    lab, shifted = to_lab(known), to_lab(yellower)
    assert float(colour_scores(lab, shifted, lab, seam_regions(lab, 16, False))["hue_shift_centre"]) > 5
    assert (
        float(colour_scores(lab, lab[:, None], shifted[:, 0], seam_regions(lab, 16, False))["hue_shift_centre"]) < -5
    )


def test_faces_without_the_region_have_no_value():
    known = to_lab(photo(hair=45))
    found = colour_scores(known, known[:, None], known, seam_regions(known, 32, upright=True))
    for kind in ("colour_error", "seam_step", "lightness_shift", "hue_shift"):
        assert bool(found[f"{kind}_dark_hair_like"].isnan()) and not bool(found[f"{kind}_hair_like"].isnan())
    mask = torch.zeros(1, 32, 30, dtype=torch.bool)
    mask[0, 0, :3] = True
    assert bool(region_colour(known[:, None], mask).isnan().all())


def test_procedural_regions_have_the_colours_that_the_top_half_shows():
    data = DataConfig(height=48, width=40)
    factors = factors_of(data, 12)
    regions = procedural_regions(factors, determined_pixels(draw_exact_samples(factors, 48, 40, 6)), 48, 40)
    lab = to_lab(torch.from_numpy(render(factors, 48, 40)).permute(0, 3, 1, 2)[:, :, 24:] / 255)
    again = to_lab(draw_exact_samples(factors, 48, 40, 2, seed=9) / 255)
    found = colour_scores(lab, again, lab, regions)
    for name in ("skin", "hair", "background"):
        assert float(found[f"colour_error_{name}"].nanmean()) < 0.5, name  # decided, so all exact samples share it
    hair = to_lab(torch.from_numpy(factors.hair)[..., None, None])[:, 0, 0, 0]
    dark = regions["dark_hair"].flatten(1).any(dim=1)
    assert bool((hair[dark] < DARK).all()) and bool(dark.any())
    light = np.flatnonzero((hair >= DARK).numpy())
    assert bool(regions["hair"][light].any()) and not bool(regions["dark_hair"][light].any())


ALL, REVERSED = slice(None), slice(None, None, -1)


def test_regions_have_the_colour_asked_for():
    factors = factors_of(DataConfig(), 24)
    images = torch.from_numpy(render(factors, 96, 80)).permute(0, 3, 1, 2)[:, :, 48:] / 255
    long = factors.long_hair.astype(bool)
    hair, skin = region(factors, ("hair",), 96, 80), region(factors, ("skin",), 96, 80)
    background = region(factors, ("background_top", "background_bottom"), 96, 80)
    for one, other in ((hair, skin), (hair, background), (skin, background)):
        assert not bool((one & other).any())
    assert all(bool(part.any()) for part in hair[long]) and int(hair[~long].sum()) < int(hair[long].sum()) / 4
    for mask, colour, chosen in ((hair, factors.hair, long), (skin, factors.skin, ~long)):
        rows = np.flatnonzero(chosen)
        shown = torch.stack([images[row][:, mask[row]].median(dim=1).values for row in rows])
        own, other = (
            float((shown - torch.from_numpy(colour[rows[order].copy()])).abs().mean()) for order in (ALL, REVERSED)
        )
        assert own < 0.2 and other > 1.3 * own
