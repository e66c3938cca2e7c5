"""A prior in the place of a model of halves."""

import numpy as np
import pytest
import torch

from halfface_pipeline.diffusion.halves import known_halves
from halfface_pipeline.diffusion.samplers import make_sampler
from halfface_pipeline.inference.prior import PriorOfHalf, load_prior_of_half
from tests.conftest import tiny_prior


@pytest.mark.parametrize(
    ("kind", "hidden_half"),
    [("all", "bottom"), ("all", "top"), ("all", "left"), ("all", "right"), ("any", "bottom"), ("any", "left")],
)
def test_it_completes_halves_as_the_prior_completes_wholes(tmp_path, kind, hidden_half):
    prior = tiny_prior(hidden_half=kind)
    pipe = PriorOfHalf(prior.unet, prior.scheduler, 20, 16, hidden_half)
    if hidden_half == "bottom":
        prior.save_pretrained(tmp_path)
        pipe = load_prior_of_half(str(tmp_path))
    config = pipe.config
    assert (config.height, config.width, config.hidden_half) == (20, 16, hidden_half)
    assert config.known_layout == {"all": "prior pigdm", "any": "mask channel"}[kind]
    for each in (prior, pipe):
        each.scheduler = make_sampler("ddim", each.scheduler)
        each.set_progress_bar_config(disable=True)
    faces = np.random.default_rng(0).integers(0, 256, (2, 20, 16, 3), dtype=np.uint8)
    out = pipe(known_halves(faces, hidden_half), 2, 3, torch.Generator().manual_seed(0))
    method = "pigdm" if kind == "all" else None
    expected = prior(list(faces), hidden_half, method, 2, 3, torch.Generator().manual_seed(0)).images
    assert all(np.array_equal(one, other) for one, other in zip(out.images, expected, strict=True))
    high = {"bottom": np.s_[10:], "top": np.s_[:10], "left": np.s_[:, :8], "right": np.s_[:, 8:]}[hidden_half]
    for image, half in zip(out.images, out.hidden_halves, strict=True):
        assert np.array_equal(np.array(image)[high], half)
