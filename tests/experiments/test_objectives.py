"""Noise-prediction error in one currency, colours by region and hair colour."""

import pytest

from halfface_pipeline.config.schema import DataConfig, SamplingConfig
from halfface_pipeline.diffusion.samplers import make_sampler
from halfface_pipeline.evaluation.dataset import load_batch
from halfface_pipeline.evaluation.factors import hair_colours
from halfface_pipeline.evaluation.metrics.colour import region
from halfface_pipeline.experiments.objectives import _by_hair_colour, noise_prediction_error, objectives
from tests.oracles import GaussianDenoiser

TWO = SamplingConfig(num_completions=2, num_inference_steps=2)
DATA = DataConfig(height=48, width=40, num_eval_images=16)


def oracle_pipeline(tiny_pipeline, prediction_type):
    pipe = tiny_pipeline(48, 40, prediction_type=prediction_type)
    pipe.unet = GaussianDenoiser(pipe.unet, pipe.scheduler.alphas_cumprod, 0.1, 0.5, prediction_type)
    return pipe


def test_errors_agree_across_prediction_types(tiny_pipeline):
    trial = load_batch(tiny_pipeline(48, 40), DATA, 4, 1)
    errors = [
        noise_prediction_error(oracle_pipeline(tiny_pipeline, kind), trial)
        for kind in ("epsilon", "v_prediction", "sample")
    ]
    for other in errors[1:]:
        assert other == pytest.approx(errors[0], rel=1e-3)
    pipe = oracle_pipeline(tiny_pipeline, "epsilon")
    # At high noise nothing but the mean can be told: the clean half is missed by its own deviation from 0.1.
    missed = ((trial.truth / 127.5 - 1 - 0.1).square().mean().sqrt() / 2).item()
    assert noise_prediction_error(pipe, trial)["clean_error_high"] == pytest.approx(missed, rel=0.05)


def test_brighter_hair_is_measured_per_colour(tiny_pipeline):
    trial = load_batch(tiny_pipeline(48, 40), DATA, 16, 1)
    mask = region(trial.factors, ("hair",), 48, 40) & trial.determined
    names = hair_colours(trial.factors)
    brighter = (trial.truth[:, None].int() + 25).clamp(0, 255).expand(-1, 2, -1, -1, -1)
    rows = _by_hair_colour("model", brighter, trial, mask, names)
    assert {row["hair"] for row in rows} <= set(names) and sum(row["faces"] for row in rows) > 8
    for row in rows:
        assert row["shift"] == pytest.approx(25 / 255, abs=1e-3) and row["hair_error"] == pytest.approx(
            25 / 255, abs=1e-3
        )


def test_models_are_compared_with_exact_samples(tiny_pipeline):
    trial = load_batch(tiny_pipeline(48, 40), DATA, 6, 2)
    models = {}
    for name in ("epsilon", "v_prediction"):
        pipe = tiny_pipeline(48, 40, prediction_type=name)
        models[name] = (pipe, make_sampler("ddim", pipe.scheduler))
    result = objectives(models, trial, TWO)
    assert [row["model"] for row in result.rows] == ["epsilon", "v_prediction", "exact samples", "another face"]
    exact, wrong = result.rows[2], result.rows[3]
    for name in ("skin_error", "hair_error", "background_error"):
        assert exact[name] < 0.005 < 0.05 < wrong[name]
    assert exact["noise_error"] is None
    assert all(type(pipe.scheduler).__name__ == "DDPMScheduler" for pipe, _ in models.values())
    assert {row["model"] for row in result.details["hair_colours"]} == set(models)


def test_photographs_and_other_halves_are_refused(tiny_pipeline):
    pipe = tiny_pipeline(48, 40, hidden_half="left")
    trial = load_batch(pipe, DATA, 2, 2)
    with pytest.raises(ValueError, match="hidden_half is 'left' or the faces are photographs"):
        objectives({"left": (pipe, pipe.scheduler)}, trial, TWO)
