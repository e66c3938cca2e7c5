"""Every sampler that can take the trained scheduler's place, against denoisers whose samples are known."""

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
from halfface_pipeline.remote_code.noise_levels import check_scheduler, prepare_scheduler
from tests.oracles import GaussianDenoiser

HALF = torch.zeros(3, 10, 16)
CLASSES = sorted(
    name
    for name in dir(diffusers)
    if name.endswith("Scheduler") and not name.startswith(("Flax", "RePaint")) and name != "KarrasVeScheduler"
)
FRESH_NOISE = (
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DPMSolverSDEScheduler",
    "EulerAncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
)


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


@pytest.mark.parametrize("name", SAMPLERS)
def test_gaussian_data_keep_their_mean_and_deviation(tiny_pipeline, name):
    pipe, steps = tiny_pipeline(), 200
    pipe.unet = GaussianDenoiser(pipe.unet, pipe.scheduler.alphas_cumprod, 0.3, 0.2)
    pipe.scheduler = make_sampler(name, pipe.scheduler)
    out = pipe(HALF, 20, steps, torch.Generator().manual_seed(0), output_type="pt")
    assert float(out.hidden_halves.mean() * 2 - 1) == pytest.approx(0.3, abs=0.01)
    assert float(out.hidden_halves.std() * 2) == pytest.approx(0.2, rel=0.08)


# ---------------------------------------------------------------------- any scheduler, any number of steps


def refusal(scheduler, trained, steps):
    try:
        check_scheduler(scheduler, steps, trained.config)
    except ValueError as error:
        return str(error)
    return None


def sampled(pipe, scheduler, steps):
    """Hidden halves on the scale of [-1, 1]."""
    pipe.scheduler = scheduler
    return pipe(HALF, 4, steps, torch.Generator().manual_seed(0), output_type="latent").hidden_halves


@pytest.mark.parametrize("class_name", CLASSES)
def test_every_scheduler_of_diffusers_is_exact_or_refused_by_name(tiny_pipeline, class_name):
    pipe = tiny_pipeline()
    trained = pipe.scheduler
    pipe.unet = GaussianDenoiser(pipe.unet, trained.alphas_cumprod, 0.3, 0.2)
    try:
        scheduler = getattr(diffusers, class_name).from_config(trained.config)
    except (ImportError, ValueError, TypeError, NotImplementedError, AttributeError):
        return  # cannot be made
    reason = refusal(scheduler, trained, steps := 12 if class_name == "DPMSolverSDEScheduler" else 50)
    if reason is None:
        image = sampled(pipe, scheduler, steps)
        assert float(image.mean()) == pytest.approx(0.3, abs=0.01)
        # Fresh noise at each step costs deviation, as in DDPM: 0.156 after 50 steps, 0.2 in the limit.
        assert (0.11 if class_name in FRESH_NOISE else 0.17) < float(image.std()) < 0.22
    else:
        assert class_name in reason
        assert class_name not in {spec.class_name for spec in SAMPLERS.values()}, reason
        with pytest.raises(ValueError, match=class_name):
            sampled(pipe, scheduler, steps)


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


@pytest.mark.parametrize(("name", "deviation"), [("LCMScheduler", 0.67), ("TCDScheduler", 0.89)])
def test_samplers_of_consistency_functions_need_a_distilled_model(tiny_pipeline, name, deviation):
    pipe = tiny_pipeline()
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    for steps in (1, 4, 20):
        with pytest.raises(ValueError, match=rf"{name}.*have {deviation} times the .* of DDPM 0.93"):
            pipe(HALF, num_inference_steps=steps)
    distilled = HalfFaceInpaintPipeline(pipe.unet, pipe.scheduler, 20, 16, distilled_steps=(1, 2, 4))
    assert distilled.config.distilled_steps == [1, 2, 4]
    distilled(HALF, num_inference_steps=4)
    with pytest.raises(ValueError, match="num_inference_steps is 3; this model was distilled for 1, 2, 4 steps"):
        distilled(HALF, num_inference_steps=3)


SLOW_TO_SET = ("dpm-sde", "kdpm2", "kdpm2-a")  # seconds for a hundred counts
SURPLUS = {T: [N for N in range(1, T + 1) if len(np.arange(T, 0, -T / N)) > N] for T in (100, 1000)}
"""Counts for which diffusers' trailing spacing has one timestep too many."""


@pytest.mark.parametrize(
    ("name", "num_train_timesteps", "counts"),
    [
        (name, T, [N for N in SURPLUS[T] if N < 250] if name in SLOW_TO_SET else range(1, T + 1))
        for name in SAMPLERS
        for T in (100, 1000)
    ],
)
def test_every_number_of_steps_has_its_timesteps(name, num_train_timesteps, counts):
    assert len(SURPLUS[1000]) == 62
    noise = NoiseConfig(num_train_timesteps=num_train_timesteps, beta_end=20 / num_train_timesteps)
    sampler = make_sampler(name, training_scheduler(noise, "epsilon"))
    for steps in counts:
        if name == "dpm++-single" and steps == num_train_timesteps:  # repeats a timestep
            with pytest.raises(ValueError, match="each once; use other steps"):
                check_scheduler(sampler, steps, sampler.config)
            continue
        timesteps = prepare_scheduler(sampler, steps, "cpu", checked=True).timesteps.double()
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
