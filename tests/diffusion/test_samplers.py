"""Every sampler that can take the trained scheduler's place, against denoisers whose samples are known."""

import re
from typing import get_args

import pytest
import torch
from diffusers import DDIMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

from halfface_pipeline import HalfFaceInpaintPipeline
from halfface_pipeline.config.schema import NoiseConfig, SamplerName
from halfface_pipeline.diffusion.samplers import NOT_FOR_SAMPLE, SAMPLERS, make_sampler, training_scheduler
from tests.oracles import GaussianDenoiser

CALLS = {"heun": lambda n: 2 * n - 1, "kdpm2": lambda n: 2 * n - 1, "kdpm2-a": lambda n: 2 * n - 1}
CALLS["dpm-sde"] = CALLS["heun"]


@pytest.fixture(params=["fresh", "reloaded"])
def pipe_with(request, tiny_pipeline, tmp_path):
    """Makes a pipeline around an exact denoiser, new or after saving and loading."""

    def make(name, mean, deviation, prediction_type="epsilon"):
        pipe = tiny_pipeline(prediction_type=prediction_type)
        if request.param == "reloaded":
            pipe.save_pretrained(tmp_path / "model")
            pipe = HalfFaceInpaintPipeline.from_pretrained(tmp_path / "model")
            pipe.set_progress_bar_config(disable=True)
        abar = pipe.scheduler.alphas_cumprod
        pipe.unet = GaussianDenoiser(pipe.unet, abar, mean, deviation, prediction_type)
        pipe.scheduler = make_sampler(name, pipe.scheduler)
        return pipe

    return make


def test_names_are_those_of_the_configuration():
    assert tuple(SAMPLERS) == get_args(SamplerName)


PREDICTIONS = [(name, "epsilon") for name in SAMPLERS] + [(name, "v_prediction") for name in SAMPLERS]
PREDICTIONS += [(name, "sample") for name in SAMPLERS if name not in NOT_FOR_SAMPLE]


@pytest.mark.parametrize("name", NOT_FOR_SAMPLE)
def test_samplers_that_cannot_use_predictions_of_the_image_are_refused(tiny_pipeline, name):
    with pytest.raises(ValueError, match=f"scheduler is '{name}'"):
        make_sampler(name, tiny_pipeline(prediction_type="sample").scheduler)


@pytest.mark.parametrize(("name", "prediction_type"), PREDICTIONS)
def test_a_constant_image_is_drawn_exactly(pipe_with, name, prediction_type):
    pipe = pipe_with(name, mean=0.4, deviation=0.0, prediction_type=prediction_type)
    out = pipe(
        torch.zeros(3, 10, 16), num_inference_steps=10, output_type="pt", generator=torch.Generator().manual_seed(0)
    )
    assert float((out.hidden_halves * 2 - 1 - 0.4).abs().max()) < 2e-3
    assert type(pipe.scheduler).__name__ == SAMPLERS[name][0]
    pipe.scheduler.set_timesteps(10)
    assert pipe.unet.timesteps == [float(t) for t in pipe.scheduler.timesteps]
    assert len(pipe.unet.timesteps) == CALLS.get(name, lambda n: n)(10)
    assert pipe.unet.timesteps[0] == 999


@pytest.mark.parametrize("name", SAMPLERS)
def test_gaussian_data_keep_their_mean_and_spread(pipe_with, name):
    pipe = pipe_with(name, mean=0.3, deviation=0.2)
    out = pipe(
        torch.zeros(3, 10, 16),
        num_completions=20,
        num_inference_steps=200,
        output_type="pt",
        generator=torch.Generator().manual_seed(0),
    )
    assert float(out.hidden_halves.mean() * 2 - 1) == pytest.approx(0.3, abs=0.01)
    assert float(out.hidden_halves.std() * 2) == pytest.approx(0.2, rel=0.08)


def test_samplers_that_do_not_work_on_the_trained_noise_levels_are_refused(tiny_pipeline):
    pipe = tiny_pipeline()
    for other in (EDMEulerScheduler(), FlowMatchEulerDiscreteScheduler()):
        pipe.scheduler = other
        with pytest.raises(ValueError, match=type(other).__name__):
            pipe(torch.zeros(3, 10, 16), num_inference_steps=2)


@pytest.mark.parametrize("steps", [7, 30, 61, 122, 1000])
@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_any_number_of_steps_is_exact_on_gaussian_data(pipe_with, name, steps):
    """61 and 122 are counts for which "trailing" spacing gives a surplus timestep; 7 and 30 do not divide T."""
    pipe = pipe_with(name, mean=0.3, deviation=0.0)
    out = pipe(torch.zeros(3, 10, 16), 1, steps, torch.Generator().manual_seed(0), output_type="pt")
    assert len(pipe.unet.timesteps) == steps and min(pipe.unet.timesteps) >= 0
    assert float((out.hidden_halves * 2 - 1 - 0.3).abs().max()) < 2e-3


@pytest.mark.parametrize("steps", [3, 7, 30])
def test_ddim_equals_first_order_dpm_solver(pipe_with, steps):
    """DPM-Solver++ of first order is DDIM (Lu et al. 2022, section 4.1)."""
    images = []
    for name in ("ddim", "dpm++"):
        pipe = pipe_with(name, mean=0.3, deviation=0.2)
        if name == "dpm++":
            pipe.scheduler = make_sampler(name, pipe.scheduler).from_config(
                pipe.scheduler.config, solver_order=1, final_sigmas_type="zero"
            )
        else:
            pipe.scheduler.register_to_config(clip_sample=False)
        images.append(
            pipe(torch.zeros(3, 10, 16), 2, steps, torch.Generator().manual_seed(0), output_type="pt").images
        )
    torch.testing.assert_close(*images, atol=2e-3, rtol=0)


def test_leftover_noise_of_the_large_variance_is_reported(tiny_pipeline):
    pipe = tiny_pipeline()
    pipe.scheduler.register_to_config(variance_type="fixed_large")
    with pytest.warns(UserWarning, match=r"white noise of standard deviation 0.32 after 10 steps"):
        pipe(torch.zeros(3, 10, 16), num_inference_steps=10)


def test_eta_goes_to_the_sampler_that_takes_it_and_is_refused_by_others(tiny_pipeline):
    pipe = tiny_pipeline()
    arguments = {"num_inference_steps": 4, "output_type": "pt"}
    with pytest.raises(ValueError, match=r"eta is 1.0; DDPMScheduler"):
        pipe(torch.zeros(3, 10, 16), eta=1.0, **arguments)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    draws = [
        pipe(torch.zeros(3, 10, 16), eta=eta, generator=torch.Generator().manual_seed(0), **arguments).images
        for eta in (None, 0.0, 1.0)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[1], draws[2])


def test_samplers_that_would_drop_zero_terminal_snr_are_refused_and_the_others_keep_it():
    trained = training_scheduler(NoiseConfig(rescale_betas_zero_snr=True), "v_prediction")
    assert float(trained.alphas_cumprod[-1]) == 0
    for name in SAMPLERS:
        if name in ("dpm++-single", "dpm-sde", "heun", "kdpm2", "kdpm2-a", "lms"):
            with pytest.raises(
                ValueError, match=re.escape(f"scheduler is '{name}'; a model trained with rescale_betas")
            ):
                make_sampler(name, trained)
        else:
            torch.testing.assert_close(make_sampler(name, trained).alphas_cumprod[:-1], trained.alphas_cumprod[:-1])


def test_an_unknown_sampler_is_refused_with_the_known_ones_named(tiny_pipeline):
    with pytest.raises(ValueError, match=r"scheduler is 'dpm'; it must be one of ddpm, ddim"):
        make_sampler("dpm", tiny_pipeline().scheduler)
