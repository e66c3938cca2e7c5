"""Every sampler that can take the trained scheduler's place, against denoisers whose samples are known."""

import bisect
import itertools
import math
import re

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from halfface_pipeline import HalfFaceInpaintPipeline
from halfface_pipeline.config.samplers import PREDICTION_TYPES, SAMPLERS
from halfface_pipeline.config.schema import NoiseConfig
from halfface_pipeline.diffusion.samplers import check_sampling, make_sampler, training_scheduler
from halfface_pipeline.remote_code.noise_levels import (
    _sample_exact_denoiser,
    check_scheduler,
    noise_schedule,
    prepare_scheduler,
)
from tests.oracles import GaussianDenoiser

HALF, WIDE = torch.zeros(3, 10, 16), torch.zeros(3, 20, 80)
CLASSES = sorted(
    name
    for name in dir(diffusers)
    if name.endswith("Scheduler") and not name.startswith(("Flax", "RePaint")) and name != "KarrasVeScheduler"
)
GAUSSIAN_STEPS = {"LMSDiscreteScheduler": 50, "KDPM2AncestralDiscreteScheduler": 50}
"""Fewer than 200 where a step is slow and the deviation is right before."""


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


@pytest.mark.parametrize(
    ("name", "prediction_type"), [(name, kind) for name, spec in SAMPLERS.items() for kind in PREDICTION_TYPES]
)
def test_a_constant_image_is_sampled_exactly(pipe_with, name, prediction_type):
    spec = SAMPLERS[name]
    if prediction_type not in spec.predictions:
        with pytest.raises(ValueError, match=re.escape(f"scheduler is '{name}'; a model that predicts the clean")):
            pipe_with(name, mean=0.4, deviation=0.0, prediction_type=prediction_type)
        return
    pipe = pipe_with(name, mean=0.4, deviation=0.0, prediction_type=prediction_type)
    out = pipe(HALF, num_inference_steps=10, output_type="pt", generator=torch.Generator().manual_seed(0))
    assert float((out.hidden_halves * 2 - 1 - 0.4).abs().max()) < 2e-3
    assert type(pipe.scheduler).__name__ == spec.class_name
    pipe.scheduler.set_timesteps(10)
    assert pipe.unet.timesteps == [float(t) for t in pipe.scheduler.timesteps]
    assert len(pipe.unet.timesteps) == {"N": 10, "2N - 1": 19}[spec.nfe]
    assert pipe.unet.timesteps[0] == 999


# ---------------------------------------------------------------------- any scheduler, any number of steps


def refusal(scheduler, trained, steps):
    try:
        check_scheduler(scheduler, steps, noise_schedule(trained))
    except ValueError as error:
        return str(error)
    return None


def sampled(pipe, scheduler, steps, half=HALF, number=4):
    """Hidden halves on the scale of [-1, 1]."""
    pipe.scheduler = scheduler
    return pipe(half, number, steps, torch.Generator().manual_seed(0), output_type="latent").hidden_halves


@pytest.mark.parametrize(
    "class_name",
    [pytest.param(name, marks=pytest.mark.slow if name == "DPMSolverSDEScheduler" else ()) for name in CLASSES],
)
def test_every_scheduler_of_diffusers_is_exact_or_refused_by_name(tiny_pipeline, class_name):
    """Samples of Gaussian data have their mean and deviation; DDPM itself has 0.156 of 0.2 after 50 steps."""
    pipe, named = tiny_pipeline(40, 80), {spec.class_name: name for name, spec in SAMPLERS.items()}
    trained, steps = pipe.scheduler, GAUSSIAN_STEPS.get(class_name, 200)
    pipe.unet = GaussianDenoiser(pipe.unet, trained.alphas_cumprod, 0.3, 0.2)
    try:
        scheduler = getattr(diffusers, class_name).from_config(trained.config)
    except (ImportError, ValueError, TypeError, NotImplementedError, AttributeError):
        return  # cannot be made
    if class_name in named:
        scheduler = make_sampler(named[class_name], trained)
    reason = refusal(scheduler, trained, min(steps, 50))
    if reason is None:
        scheduler.register_to_config(clip_sample=False)
        out = sampled(pipe, scheduler, steps, WIDE, 2)
        assert float(out.mean()) == pytest.approx(0.3, abs=0.01)
        assert float(out.std()) == pytest.approx(0.2, rel=0.08)
    else:
        assert class_name in reason
        assert class_name not in named, reason
        with pytest.raises(ValueError, match=class_name):
            sampled(pipe, scheduler, 50, WIDE, 2)


def test_a_new_scheduler_is_compared_with_the_trained_noise(tiny_pipeline, tmp_path):
    """However it comes into the pipeline: put in place, by `from_pipe`, by `from_pretrained`, or saved with it."""
    pipe = tiny_pipeline()
    pipe.save_pretrained(tmp_path / "model")
    good = make_sampler("euler", pipe.scheduler)
    other = type(good).from_config(good.config, beta_end=0.012)
    for scheduler, fits in ((good, True), (other, False)):
        swapped = HalfFaceInpaintPipeline.from_pipe(pipe, scheduler=scheduler)
        loaded = HalfFaceInpaintPipeline.from_pretrained(tmp_path / "model", scheduler=scheduler)
        swapped.save_pretrained(tmp_path / "swapped")
        for each in (swapped, loaded, HalfFaceInpaintPipeline.from_pretrained(tmp_path / "swapped")):
            assert each.config.trained_noise["beta_end"] == pipe.scheduler.config.beta_end
            if fits:
                each(HALF, num_inference_steps=3)
            else:
                with pytest.raises(ValueError, match="scheduler is EulerDiscreteScheduler"):
                    each(HALF, num_inference_steps=3)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("dpm++", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}),
        ("euler", {"beta_end": 0.012}),
        ("ddpm", {"beta_schedule": "scaled_linear"}),
        ("dpm++", {"num_train_timesteps": 500}),
        ("ddim", {"num_train_timesteps": 2000}),
        ("euler", {"prediction_type": "v_prediction"}),
        ("ddpm", {"prediction_type": "sample"}),
        ("ddpm", {"variance_type": "fixed_large_log"}),
        ("unipc", {"use_flow_sigmas": True}),
    ],
)
def test_other_noise_levels_than_the_trained_ones_are_refused(tiny_pipeline, name, changes):
    pipe = tiny_pipeline()
    swapped = make_sampler(name, pipe.scheduler)
    pipe.scheduler = type(swapped).from_config(swapped.config, **changes)
    with pytest.raises(ValueError, match=type(swapped).__name__):
        pipe(HALF, num_inference_steps=20)


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("beta_schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("steps", [1, 2, 3, 100])
def test_few_steps_and_all_steps_are_exact_or_refused(tiny_pipeline, spacing, beta_schedule, steps):
    """Where the check passes, the image is the one that the denoiser knows, up to visible noise."""
    noise = NoiseConfig(num_train_timesteps=100, beta_schedule=beta_schedule, beta_end=0.2)
    trained = training_scheduler(noise, "v_prediction")
    pipe = HalfFaceInpaintPipeline(tiny_pipeline().unet, trained, 20, 16)
    pipe.set_progress_bar_config(disable=True)
    pipe.unet = GaussianDenoiser(pipe.unet, trained.alphas_cumprod, 0.3, 0.0, "v_prediction")
    for name in ("ddpm", "dpm++", "dpm++-single", "unipc", "euler", "euler-a"):
        made = make_sampler(name, trained)
        scheduler = type(made).from_config(made.config, timestep_spacing=spacing)
        reason = refusal(scheduler, trained, steps)
        if reason is None:
            assert float((sampled(pipe, scheduler, steps) - 0.3).abs().max()) < 0.1, name


def test_euler_ancestral_in_three_steps_of_a_cosine_schedule():
    trained = training_scheduler(NoiseConfig(beta_schedule="squaredcos_cap_v2"), "v_prediction")
    assert "EulerAncestralDiscreteScheduler" in str(refusal(make_sampler("euler-a", trained), trained, 3))
    with pytest.raises(ValueError, match="EulerAncestralDiscreteScheduler"):
        check_sampling("euler-a", 3, trained)


@pytest.mark.parametrize(("name", "steps"), [("LCMScheduler", 3), ("LCMScheduler", 20), ("TCDScheduler", 20)])
def test_samplers_of_consistency_functions_need_a_distilled_model(tiny_pipeline, name, steps):
    pipe = tiny_pipeline()
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    with pytest.raises(ValueError, match=rf"{name}; after timestep \d+ it keeps 0.* of the noise, and DDPM 0"):
        pipe(HALF, num_inference_steps=steps)
    distilled = HalfFaceInpaintPipeline(pipe.unet, pipe.scheduler, 20, 16, distilled_steps=(1, steps))
    assert distilled.config.distilled_steps == [1, steps]
    distilled(HALF, num_inference_steps=steps)
    with pytest.raises(ValueError, match=f"num_inference_steps is 2; this model was distilled for 1, {steps} steps"):
        distilled(HALF, num_inference_steps=2)


@pytest.mark.parametrize(("name", "steps"), [("ddpm", 3), ("ddpm", 20), ("euler-a", 20)])
def test_ancestral_sampling_keeps_the_ratio_of_noise_levels(name, steps):
    """x_s given x_t and x_0 keeps sqrt(SNR_t / SNR_s) of the noise (Ho et al. 2020, equation 7)."""
    trained = training_scheduler(NoiseConfig(), "epsilon")
    own = prepare_scheduler(make_sampler(name, trained), steps, "cpu")
    noise, _, ratios, _ = _sample_exact_denoiser(own, noise_schedule(trained))
    kept = [np.corrcoef(*pair)[0, 1] for pair in itertools.pairwise(noise)]
    np.testing.assert_allclose(kept, ratios[1:] / ratios[:-1], atol=0.05)


LONG = ("kdpm2", "kdpm2-a", "dpm-sde")
SURPLUS = {T: [N for N in range(1, T + 1) if len(np.arange(T, 0, -T / N)) > N] for T in (100, 1000)}
"""Counts for which diffusers' trailing spacing has one timestep too many."""


def between(levels, value):
    """Where a value lies among rising levels, as a fractional index."""
    after = min(max(bisect.bisect(levels, value), 1), len(levels) - 1)
    fraction = (value - levels[after - 1]) / (levels[after] - levels[after - 1])
    return after - 1 + min(max(fraction, 0.0), 1.0)


@pytest.mark.parametrize(
    ("name", "num_train_timesteps", "counts"),
    [
        pytest.param(name, T, range(1, T + 1), marks=pytest.mark.slow if T == 1000 and name in LONG else ())
        for name in SAMPLERS
        for T in (100, 1000)
    ],
)
def test_every_number_of_steps_has_its_timesteps(name, num_train_timesteps, counts):
    assert len(SURPLUS[1000]) == 62
    noise = NoiseConfig(num_train_timesteps=num_train_timesteps, beta_end=20 / num_train_timesteps)
    sampler = make_sampler(name, training_scheduler(noise, "epsilon"))
    if hasattr(sampler, "_sigma_to_t"):
        levels = (((1 - sampler.alphas_cumprod) / sampler.alphas_cumprod).double().log() / 2).tolist()
        as_shipped = prepare_scheduler(sampler, 61, "cpu").timesteps
        # diffusers searches all levels for each timestep: minutes for a thousand counts.
        sampler._sigma_to_t = lambda sigma, _: between(levels, math.log(sigma) if sigma else -math.inf)
        torch.testing.assert_close(prepare_scheduler(sampler, 61, "cpu").timesteps, as_shipped, atol=0.01, rtol=0)
    for steps in counts:
        if name == "dpm++-single" and steps == num_train_timesteps:  # repeats a timestep
            with pytest.raises(ValueError, match="each once; use other steps"):
                check_scheduler(sampler, steps, noise_schedule(sampler))
            continue
        timesteps = prepare_scheduler(sampler, steps, "cpu").timesteps.double()
        assert len(timesteps) == (2 * steps - 1 if SAMPLERS[name].second_order else steps), steps
        main = timesteps[::2] if SAMPLERS[name].second_order else timesteps
        assert bool((main.diff() < 0).all()) and float(timesteps.min()) >= 0, steps
        assert float(timesteps.max()) == num_train_timesteps - 1, steps


@pytest.mark.parametrize("steps", [7, 30, 61, 122, 1000])
@pytest.mark.parametrize("name", ["ddpm", "ddim", "euler"])
def test_any_number_of_steps_is_exact_on_a_constant_image(tiny_pipeline, name, steps):
    pipe = tiny_pipeline()
    pipe.unet = GaussianDenoiser(pipe.unet, pipe.scheduler.alphas_cumprod, 0.3, 0.0)
    pipe.scheduler = make_sampler(name, pipe.scheduler)
    out = pipe(HALF, 1, steps, torch.Generator().manual_seed(0), output_type="pt")
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
        images.append(pipe(HALF, 2, steps, torch.Generator().manual_seed(0), output_type="pt").images)
    torch.testing.assert_close(*images, atol=2e-3, rtol=0)


def test_leftover_noise_of_the_large_variance_is_reported(tiny_pipeline):
    pipe = tiny_pipeline()
    pipe.scheduler.register_to_config(variance_type="fixed_large")
    with pytest.warns(UserWarning, match=r"white noise of standard deviation 0.32 after 10 steps"):
        pipe(HALF, num_inference_steps=10)


def test_eta_goes_to_the_sampler_that_takes_it_and_is_refused_by_others(tiny_pipeline):
    pipe = tiny_pipeline()
    arguments = {"num_inference_steps": 4, "output_type": "pt"}
    with pytest.raises(ValueError, match=r"eta is 1.0; DDPMScheduler"):
        pipe(HALF, eta=1.0, **arguments)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(ValueError, match=r"eta is 1.5; it must be from 0 to 1"):
        pipe(HALF, eta=1.5, **arguments)
    images = [
        pipe(HALF, eta=eta, generator=torch.Generator().manual_seed(0), **arguments).images for eta in (None, 0.0, 1.0)
    ]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[1], images[2])


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
            check_sampling(name, 10, trained)
            torch.testing.assert_close(make_sampler(name, trained).alphas_cumprod[:-1], trained.alphas_cumprod[:-1])


def test_an_unknown_sampler_is_refused_with_the_known_ones_named(tiny_pipeline):
    with pytest.raises(ValueError, match=r"scheduler is 'dpm'; it must be one of ddpm, ddim"):
        make_sampler("dpm", tiny_pipeline().scheduler)
