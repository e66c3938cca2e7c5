"""Random masks of a training for any mask."""

import pytest
import torch

from halfface_pipeline.diffusion.masks import INVERTED, KINDS, random_masks
from halfface_pipeline.remote_code.masks import read_mask

HALVES = ("bottom", "top", "left", "right")
COUNT = 6000


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def masks():
    return random_masks(COUNT, 24, 20, seeded())


def share(of):
    """A share of the masks, with four deviations of a binomial one."""
    return pytest.approx(of, abs=4 * (of * (1 - of) / COUNT) ** 0.5)


def test_kinds_have_their_shares(masks):
    """Halves and whole images are recognized; of what is inverted most corners are, of others few."""
    assert masks.shape == (COUNT, 1, 24, 20) and masks.dtype == torch.bool
    whole = masks.flatten(1).all(1)
    halves = [(masks == read_mask(half, 24, 20)).flatten(1).all(1) for half in HALVES]
    for half in halves:
        assert float(half.float().mean()) == share(KINDS["half"] / 4)
    assert float(whole.float().mean()) == share(KINDS["all"])
    others = masks[~(whole | torch.stack(halves).any(0))][:, 0]
    corners = others[:, [0, 0, -1, -1], [0, -1, 0, -1]].sum(1)
    assert sum(KINDS.values()) == pytest.approx(1)
    assert INVERTED * 0.7 < float((corners == 4).float().mean()) < INVERTED * 1.2
    assert float(others.float().mean()) == pytest.approx(0.4, abs=0.1)


def test_each_hides_something_and_no_two_boxes_or_strokes_are_alike(masks):
    assert bool(masks.flatten(1).any(1).all())
    tiny = random_masks(COUNT, 2, 3, seeded(1))
    assert bool(tiny.flatten(1).any(1).all()) and bool((~tiny.flatten(1)).any())
    assert len(masks.flatten(1).unique(dim=0)) > COUNT * (KINDS["box"] + KINDS["stroke"]) * 0.9


def test_a_generator_repeats_them():
    first, again, other = (random_masks(8, 24, 20, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
