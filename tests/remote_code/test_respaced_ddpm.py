"""Fewer steps: coefficients against plain arithmetic, samples of Gaussian data against their closed form."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

from halfface_pipeline import HalfFaceInpaintPipeline, RespacedDDPMScheduler
from halfface_pipeline.config.schema import NoiseConfig
from halfface_pipeline.diffusion.samplers import training_scheduler
from halfface_pipeline.experiments.noise_levels import mismatch
from halfface_pipeline.remote_code.respaced_ddpm import shorter_linear_betas
from tests.oracles import GaussianDenoiser

T, BETA_1, BETA_T = 1000, 1e-4, 0.02
ALL_SHORTER = [steps for steps in range(20, T + 1) if T % steps == 0]
MEAN, DEVIATION = 0.3, 0.2


def alphas_cumprod(betas):
    """abar, one product at a time."""
    products, product = [], 1.0
    for beta in betas:
        product *= 1 - beta
        products.append(product)
    return products


TRAINED = alphas_cumprod([BETA_1 + (BETA_T - BETA_1) * i / (T - 1) for i in range(T)])


def check_steps(scheduler, betas, abar, timesteps):
    """Every coefficient of the reverse process, from the last level to the first."""
    steps, before = scheduler.steps, [1.0, *abar[:-1]]
    np.testing.assert_allclose(steps.betas.flip(0), betas, rtol=0, atol=1e-10)
    np.testing.assert_allclose(steps.alphas_cumprod.flip(0), abar, rtol=0, atol=1e-10)
    np.testing.assert_allclose(steps.timesteps.flip(0), timesteps, rtol=0, atol=1e-7)
    # The step is linear in the predicted clean image and in the sample; both, one at a time, from zero and one.
    scheduler = RespacedDDPMScheduler.from_config(scheduler.config, prediction_type="sample", clip_sample=False)
    for i in {0, 1, len(betas) // 2, len(betas) - 1} & set(range(len(betas))):
        means = []
        for clean, sample in ((1.0, 0.0), (0.0, 1.0)):
            scheduler.set_timesteps(len(betas))
            scheduler.step_index = len(betas) - 1 - i
            made = [torch.full((1, 1, 200, 200), value, dtype=torch.float64) for value in (clean, sample)]
            found = scheduler.step(made[0], 0, made[1], torch.Generator().manual_seed(0)).prev_sample
            means.append(float(found.mean()))
        posterior = betas[i] * (1 - before[i]) / (1 - abar[i])
        sigma = math.sqrt({"fixed_small": posterior, "fixed_large": betas[i]}[scheduler.config.variance_type])
        assert float(found.std()) == pytest.approx(sigma if i else 0, rel=0.02, abs=1e-9)
        by_hand = [
            math.sqrt(before[i]) * betas[i] / (1 - abar[i]),
            math.sqrt(1 - betas[i]) * (1 - before[i]) / (1 - abar[i]),
        ]
        assert means == pytest.approx(by_hand, abs=1e-4 + sigma / 40)


@pytest.mark.parametrize("steps", ALL_SHORTER)
@pytest.mark.parametrize("matching", ["proportional", "log_snr"])
def test_the_shorter_schedule_has_the_reports_coefficients(steps, matching):
    kind = {"proportional": "fixed_large", "log_snr": "fixed_small"}[matching]
    scheduler = RespacedDDPMScheduler(respacing="shorter_linear", timestep_matching=matching, variance_type=kind)
    scheduler.set_timesteps(steps)
    size = T // steps
    last = BETA_1 + (BETA_T - BETA_1) * size
    betas = [BETA_1 + (last - BETA_1) * i / (steps - 1) for i in range(steps)]
    abar = alphas_cumprod(betas)
    if matching == "proportional":
        timesteps = [size * (i + 1) - 1 for i in range(steps)]
    else:
        falling = [math.log((1 - a) / a) for a in TRAINED]
        timesteps = np.interp([math.log((1 - a) / a) for a in abar], falling, range(T)).tolist()
    check_steps(scheduler, betas, abar, timesteps)
    assert scheduler.timesteps.dtype == (torch.int64 if matching == "proportional" or size == 1 else torch.float32)


def test_exact_respacing_keeps_the_trained_levels():
    for steps in [1, 2, 3, 7, 10, 25, 50, 333, 999, T]:
        scheduler = RespacedDDPMScheduler()
        scheduler.set_timesteps(steps)
        chosen = scheduler.timesteps.tolist()[::-1]
        assert len(set(chosen)) == steps and chosen == sorted(chosen) and chosen[0] >= 0 and chosen[-1] == T - 1
        abar = [TRAINED[t] for t in chosen]
        betas = [1 - a / b for a, b in zip(abar, [1.0, *abar[:-1]], strict=True)]
        check_steps(scheduler, betas, abar, chosen)
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [999, 749, 499, 249]


def test_every_schedule_of_the_trained_process_agrees_with_diffusers():
    for schedule in ("linear", "scaled_linear", "squaredcos_cap_v2"):
        for zero_snr in (False, True):
            noise = NoiseConfig(beta_schedule=schedule, rescale_betas_zero_snr=zero_snr)
            trained = training_scheduler(noise, "v_prediction")
            ours = RespacedDDPMScheduler.from_config(trained.config)
            torch.testing.assert_close(ours.alphas_cumprod.float(), trained.alphas_cumprod, rtol=2e-5, atol=1e-6)


def test_one_trailing_step_is_that_of_diffusers():
    sample, output = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    for prediction in ("epsilon", "v_prediction", "sample"):
        trained = training_scheduler(NoiseConfig(), prediction)
        ours = RespacedDDPMScheduler.from_config(trained.config)
        for scheduler in (trained, ours):
            scheduler.set_timesteps(25)
        assert ours.timesteps.tolist() == trained.timesteps.tolist()
        drawn = [s.step(output, s.timesteps[0], sample, generator=torch.manual_seed(0)) for s in (trained, ours)]
        torch.testing.assert_close(drawn[0].prev_sample, drawn[1].prev_sample, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(drawn[0].pred_original_sample, drawn[1].pred_original_sample, rtol=1e-4, atol=1e-5)


def gaussian_moments(scheduler, variance):
    """Mean and variance of what the sampler draws of N(MEAN, DEVIATION^2) with the ideal network, in closed form.

    The ideal prediction is linear in x_t, so that every step maps a Gaussian to a Gaussian.
    """
    steps = scheduler.steps
    previous = torch.cat([steps.alphas_cumprod[1:], torch.ones(1)])
    rows = [steps.alphas_cumprod, previous, steps.betas, steps.timesteps]
    mean, var = 0.0, 1.0
    falling = [math.log((1 - a) / a) for a in TRAINED]
    for abar, before, beta, timestep in zip(*(row.tolist() for row in rows), strict=True):
        told = 1 / (1 + math.exp(np.interp(timestep, range(T), falling)))
        # eps = slope (x - sqrt(told) MEAN)
        slope = math.sqrt(1 - told) / (told * DEVIATION**2 + 1 - told)
        clean_x = (1 - math.sqrt(1 - abar) * slope) / math.sqrt(abar)
        clean_1 = math.sqrt(1 - abar) * slope * math.sqrt(told) * MEAN / math.sqrt(abar)
        clean, noisy = math.sqrt(before) * beta / (1 - abar), math.sqrt(1 - beta) * (1 - before) / (1 - abar)
        posterior = beta * (1 - before) / (1 - abar)
        added = {"fixed_small": posterior, "fixed_large": beta}[variance]
        gain = clean * clean_x + noisy
        mean = gain * mean + clean * clean_1
        var = gain**2 * var + (added if before < 1 else 0.0)
    return mean, var


SAMPLERS = {
    "s=40 proportional": ({"respacing": "shorter_linear"}, 25),
    "s=40 matched": ({"respacing": "shorter_linear", "timestep_matching": "log_snr"}, 25),
    "s=10 proportional": ({"respacing": "shorter_linear"}, 100),
    "trailing": ({}, 25),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_samples_of_a_gaussian_have_the_closed_forms_moments(name, variance, tiny_pipeline):
    settings, steps = SAMPLERS[name]
    pipe = tiny_pipeline(100, 100)
    trained = DDPMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.scheduler = RespacedDDPMScheduler.from_config(trained.config, **settings, variance_type=variance)
    pipe.scheduler.set_timesteps(steps)
    mean, var = gaussian_moments(pipe.scheduler, variance)
    denoiser = GaussianDenoiser(pipe.unet, torch.tensor(TRAINED).double(), MEAN, DEVIATION)
    scheduler, x = pipe.scheduler, torch.randn(40_000, 3, generator=torch.manual_seed(1)).double()
    for t in scheduler.timesteps:
        x = scheduler.step(denoiser(x, t)[0].double(), t, x, generator=torch.manual_seed(int(t * 10))).prev_sample
    num = x.numel()
    assert abs(float(x.mean()) - mean) < 5 * math.sqrt(var / num)
    assert abs(float(x.var()) - var) < 5 * var * math.sqrt(2 / num)


def test_what_matching_cures_and_what_it_does_not():
    """Mean and deviation of draws from N(0.3, 0.2^2), posterior variance, against figures found by sampling."""
    sampled = {"s=40 proportional": (0.293, 0.142), "s=40 matched": (0.300, 0.130), "trailing": (0.299, 0.138)}
    for name, (mean, deviation) in sampled.items():
        settings, steps = SAMPLERS[name]
        scheduler = RespacedDDPMScheduler(**settings)
        scheduler.set_timesteps(steps)
        closed = gaussian_moments(scheduler, "fixed_small")
        assert (closed[0], math.sqrt(closed[1])) == pytest.approx((mean, deviation), abs=2e-3)


def test_the_mismatch_vanishes_where_levels_are_matched():
    trained = RespacedDDPMScheduler().trained_alphas_cumprod
    shorter = {"respacing": "shorter_linear"}
    for steps in (1000, 25):
        told = RespacedDDPMScheduler(**shorter).reverse_steps(steps)
        matched = RespacedDDPMScheduler(**shorter, timestep_matching="log_snr").reverse_steps(steps)
        inside = (matched.timesteps > 0) & (matched.timesteps < T - 1)
        assert float(mismatch(matched, trained)[inside].abs().max()) < 1e-9
        assert (float(mismatch(told, trained).abs().max()) < 1e-9) == (steps == 1000)
    i, by_hand = 7, math.log(told.alphas_cumprod[7] / (1 - told.alphas_cumprod[7]))
    by_hand -= math.log(TRAINED[719] / (1 - TRAINED[719]))
    assert told.timesteps[i] == 719 and float(mismatch(told, trained)[i]) == pytest.approx(by_hand, abs=1e-9)


def test_it_is_saved_and_loaded_like_any_scheduler(tiny_pipeline, tmp_path):
    pipe = tiny_pipeline()
    settings = {"respacing": "shorter_linear", "timestep_matching": "log_snr", "variance_type": "fixed_large"}
    pipe.scheduler = RespacedDDPMScheduler.from_config(pipe.scheduler.config, **settings)
    pipe.scheduler.save_pretrained(tmp_path / "alone")
    alone = RespacedDDPMScheduler.from_pretrained(tmp_path / "alone")
    assert {name: alone.config[name] for name in settings} == settings
    assert alone.config.prediction_type == pipe.scheduler.config.prediction_type
    pipe.save_pretrained(tmp_path / "model")
    loaded = HalfFaceInpaintPipeline.from_pretrained(tmp_path / "model")
    loaded.set_progress_bar_config(disable=True)
    assert (
        isinstance(loaded.scheduler, RespacedDDPMScheduler) and loaded.scheduler.config.variance_type == "fixed_large"
    )
    half = torch.zeros(3, 10, 16)
    drawn = [
        p(half, num_inference_steps=25, generator=torch.manual_seed(0), output_type="pt").images
        for p in (pipe, loaded)
    ]
    assert torch.equal(*drawn)
    solver = DPMSolverMultistepScheduler.from_config(loaded.scheduler.config)
    torch.testing.assert_close(solver.alphas_cumprod, loaded.scheduler.alphas_cumprod)


@pytest.mark.parametrize(
    ("settings", "steps", "message"),
    [
        (
            {"respacing": "shorter_linear"},
            30,
            "num_inference_steps is 30; the shorter linear schedule needs a divisor",
        ),
        (
            {"respacing": "shorter_linear"},
            10,
            "a step size of 100; it must be below 50.2: the last beta would be 1.99",
        ),
        ({}, 0, "num_inference_steps is 0; it must be from 1 to 1000"),
        ({}, 1001, "num_inference_steps is 1001; it must be from 1 to 1000"),
        ({"respacing": "longer"}, 10, "respacing is 'longer'; it must be exact or shorter_linear"),
        ({"timestep_spacing": "leading"}, 10, "timestep_spacing is 'leading'; it must be trailing"),
        (
            {"respacing": "shorter_linear", "timestep_matching": "x"},
            25,
            "timestep_matching is 'x'; it must be pro",
        ),
        ({"variance_type": "learned"}, 10, "variance_type is 'learned'; it must be fixed_small or fixed_large"),
        ({"variance_type": 0.5}, 10, "variance_type is 0.5; it must be fixed_small or fixed_large"),
        ({"timestep_spacing": "log_snr"}, 10, "timestep_spacing is 'log_snr'; it must be trailing"),
        ({"beta_schedule": "sigmoid"}, 10, "beta_schedule is 'sigmoid'; it must be linear"),
        (
            {"respacing": "shorter_linear", "beta_schedule": "scaled_linear"},
            25,
            "it must be 'exact' unless the trained",
        ),
        ({"prediction_type": "flow"}, 10, "prediction_type is 'flow'; it must be epsilon or v_prediction or sample"),
    ],
)
def test_what_cannot_be_is_refused(settings, steps, message):
    with pytest.raises(ValueError) as refusal:
        RespacedDDPMScheduler(**settings).set_timesteps(steps)
    assert message in str(refusal.value)


def test_the_largest_step_of_the_report_still_has_a_beta_below_one():
    assert float(shorter_linear_betas(20)[-1]) == pytest.approx(BETA_1 + (BETA_T - BETA_1) * 50)


def test_taking_more_steps_than_were_set_is_refused():
    scheduler = RespacedDDPMScheduler()
    scheduler.set_timesteps(1)
    sample = torch.zeros(1, 3, 4, 4)
    scheduler.step(sample, 999, sample)
    with pytest.raises(ValueError, match="more than 1 times"):
        scheduler.step(sample, 999, sample)
