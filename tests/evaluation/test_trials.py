"""Trials: exact samples, regions of a colour, the same noise under every sampler."""

import numpy as np
import pytest
import torch

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data.procedural import render
from halfface_pipeline.data.procedural.factors import HAIR_COLOURS
from halfface_pipeline.diffusion.samplers import make_sampler
from halfface_pipeline.evaluation.trials import (
    complete,
    exact_redraws,
    hair_colours,
    held_factors,
    load_faces,
    load_trial,
    region,
    scores,
    trial_of,
)

ALL, REVERSED = slice(None), slice(None, None, -1)
DATA = DataConfig(height=48, width=40, num_images=5, num_eval_images=6)


def test_redraws_share_the_determined_part_and_differ_elsewhere():
    redraws = exact_redraws(held_factors(DATA, 2), 48, 40, num_redraws=3)
    assert redraws.shape == (2, 3, 3, 24, 40)
    assert not torch.equal(redraws[0, 0], redraws[0, 1])
    assert not torch.equal(redraws[0, 0], redraws[1, 0])


def test_exact_samples_score_the_floor_and_the_truth_is_one_of_them(tiny_pipeline):
    for split, num in (("eval", 6), ("train", 5)):
        trial = load_trial(tiny_pipeline(48, 40), DATA, num, 3, split)
        assert trial.exact.shape == (num, 3, 3, 24, 40)
        np.testing.assert_array_equal(trial.images, render(trial.factors, 48, 40))
        assert scores(trial, trial.exact)["determined_pixel_error"] < 2e-3
        assert scores(trial, trial.truth[:, None])["determined_pixel_error"] == 0
        assert scores(trial, trial.truth.roll(1, 0)[:, None])["determined_pixel_error"] > 0.05
    assert "spread" not in scores(trial, trial.truth[:, None])


def test_regions_show_the_colour_they_are_asked_for():
    factors = held_factors(DATA, 24)
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


def test_hair_colours_are_named():
    factors = held_factors(DATA, 40)
    for name, colour in zip(hair_colours(factors), factors.hair, strict=True):
        ratio = colour / np.array(HAIR_COLOURS[name])
        assert ratio.min() > 0.89 and ratio.max() < 1.11 and np.ptp(ratio) < 1e-3


def test_a_seed_gives_the_same_initial_noise_to_every_sampler(tiny_pipeline):
    pipe = tiny_pipeline(48, 40)
    trial, starts, trained = load_trial(pipe, DATA, 3, 2), [], pipe.scheduler
    first = None
    pipe.unet.register_forward_pre_hook(lambda module, given: starts.append(given[0][:, :3].clone()))
    for name in ("ddpm", "dpm++"):
        starts.clear()
        pipe.scheduler = make_sampler(name, trained)
        images, hidden = complete(pipe, trial, 2, 2, seed=3, batch_size=6)
        assert len(images) == 6 and hidden.shape == (3, 2, 3, 24, 40) and hidden.dtype == torch.uint8
        first = starts[0] if first is None else first
        torch.testing.assert_close(starts[0], first)
    again = complete(pipe, trial, 2, 2, seed=3, batch_size=2)[1]
    assert int((again.int() - hidden.int()).abs().max()) <= 1


@pytest.mark.parametrize("argument", ["num_completions", "batch_size"])
def test_nothing_to_do_is_refused(tiny_pipeline, argument):
    pipe = tiny_pipeline(48, 40)
    trial = load_trial(pipe, DATA, 2, 1)
    with pytest.raises(ValueError, match=f"{argument} is 0; it must be at least 1"):
        complete(pipe, trial, **{"num_completions": 1, "num_inference_steps": 1, argument: 0})


def test_parts_of_a_trial_hold_its_faces_and_their_own_exact_samples(tiny_pipeline):
    faces, whole = load_faces(DATA, 6, 2), load_trial(tiny_pipeline(48, 40), DATA, 6, 2)
    part = trial_of(faces, "bottom", DATA, range(2, 5), 2)
    np.testing.assert_array_equal(part.images, whole.images[2:5])
    assert torch.equal(part.truth, whole.truth[2:5])
    assert float((part.determined == whole.determined[2:5]).float().mean()) > 0.97  # told by other redraws
    np.testing.assert_array_equal(part.factors.skin, whole.factors.skin[2:5])
    assert scores(part, part.exact)["determined_pixel_error"] < 2e-3


def test_halves_of_another_size_are_refused(tiny_pipeline):
    trial = load_trial(tiny_pipeline(48, 40), DATA, 2, 1)
    for halves in (trial.truth[:1, None], trial.truth[:, None, :, :-1]):
        with pytest.raises(ValueError, match="hidden has shape"):
            scores(trial, halves)
