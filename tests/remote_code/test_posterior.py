"""Methods for p(hidden | seen) on Gaussian images, whose denoiser and posterior are closed forms."""

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)

from halfface_pipeline.experiments.gaussian_posterior import GaussianImages, gaussian_errors
from halfface_pipeline.remote_code.noise_levels import prepare_scheduler
from halfface_pipeline.remote_code.posterior import (
    METHODS,
    Diffusion,
    check_method,
    evaluations,
    systematic_resampling,
)

SIZE = 16
STEPS = 50


@pytest.fixture(scope="module")
def gaussian():
    return GaussianImages()


# The prior's own mean is 0.72 off; of 1,000 exact samples 0.03. A method's error is in the range given.
@pytest.mark.parametrize(
    ("method", "options", "mean_error", "variance_ratio", "evaluations"),
    [
        ("replace", {}, (0.3, 0.5), (0.9, 1.1), 50),
        ("repaint", {}, (0.2, 0.33), (0.85, 1.02), 410),
        ("dps", {}, (0.0, 0.13), (0.68, 0.85), 50),
        ("pigdm", {}, (0.05, 0.18), (0.7, 0.88), 50),
        ("daps", {}, (0.18, 0.33), (0.95, 1.15), 147),
        ("tds", {"num_particles": 64, "num_samples": 300}, (0.0, 0.12), (0.7, 0.95), 3200),
    ],
)
def test_errors_against_the_exact_posterior(gaussian, method, options, mean_error, variance_ratio, evaluations):
    images, calls, _ = gaussian.sample(method, **options)
    assert calls == evaluations
    assert mean_error[0] <= gaussian.mean_error(images) <= mean_error[1]
    assert variance_ratio[0] <= gaussian.variance_ratio(images) <= variance_ratio[1]


def test_tds_converges_with_the_particles(gaussian):
    errors, sizes = [], []
    for particles in (1, 8, 64):
        images, _, size = gaussian.sample("tds", num_samples=300, num_particles=particles)
        errors.append(gaussian.mean_error(images))
        sizes.append(float(size.mean()))
    assert errors[0] > 1.5 * errors[1] > 1.5**2 * errors[2]
    assert sizes[0] == 1 < sizes[1] < sizes[2] < 64


def test_repaint_without_resamplings_is_replacement(gaussian):
    errors = [gaussian.mean_error(gaussian.sample("repaint", resamplings=r, num_samples=500)[0]) for r in (1, 10)]
    assert errors[0] > 1.2 * errors[1]
    assert errors[0] == pytest.approx(gaussian.mean_error(gaussian.sample("replace", num_samples=500)[0]), abs=0.06)


@pytest.mark.parametrize("method", ["repaint", "daps"])
def test_more_steps_bring_samples_closer(gaussian, method):
    few, many = (gaussian.mean_error(gaussian.sample(method, 500, steps)[0]) for steps in (25, 100))
    assert many < 0.8 * few


def test_replacement_stays_biased_with_any_number_of_steps(gaussian):
    assert gaussian.mean_error(gaussian.sample("replace", num_steps=200)[0]) > 0.3


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
@pytest.mark.parametrize("method", METHODS)
def test_what_the_network_predicts_makes_no_difference(gaussian, method, prediction_type):
    options = {"num_samples": 5, "num_steps": 12}
    other = GaussianImages(prediction_type=prediction_type)
    torch.testing.assert_close(other.sample(method, **options)[0], gaussian.sample(method, **options)[0])


@pytest.mark.parametrize(
    "scheduler",
    [DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler],
)
def test_replacement_works_on_any_scheduler(gaussian, scheduler):
    own = scheduler.from_config(gaussian.scheduler.config)
    images, _, _ = gaussian.sample("replace", scheduler=own, num_samples=500)
    assert gaussian.mean_error(images) < 0.55
    assert 0.8 < gaussian.variance_ratio(images) < 1.45


@pytest.mark.parametrize("scheduler", [DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler])
def test_with_nothing_seen_replacement_samples_the_prior(gaussian, scheduler):
    everything = torch.ones_like(gaussian.hidden)
    own = scheduler.from_config(gaussian.scheduler.config)
    images, _, _ = gaussian.sample("replace", scheduler=own, hidden=everything, num_steps=200)
    assert float((images.mean(0) - gaussian.mean).norm() / gaussian.covariance.trace().sqrt()) < 0.08
    assert float(torch.cov(images.T).trace() / gaussian.covariance.trace()) == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"replace"}))
def test_ddpm_with_eta_1_is_ddim_with_eta_1(gaussian, method):
    ddim = DDIMScheduler.from_config(gaussian.scheduler.config)
    first = gaussian.sample(method, num_samples=4, num_steps=20)[0]
    second = gaussian.sample(method, num_samples=4, num_steps=20, scheduler=ddim, eta=1.0)[0]
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize(
    ("method", "options", "steps", "calls"),
    [
        ("repaint", {"jump_length": 3, "resamplings": 4}, 10, 10 + 3 * 3 * 3),
        ("repaint", {"jump_length": 4, "resamplings": 1}, 10, 10),
        ("daps", {"ode_steps": 1}, 10, 10),
        ("daps", {"ode_steps": 3}, 10, 27),
        ("tds", {"num_particles": 5}, 10, 50),
    ],
)
def test_cost_in_evaluations(gaussian, method, options, steps, calls):
    assert (
        gaussian.sample(method, num_samples=3, num_steps=steps, **options)[1]
        == calls
        == evaluations(method, steps, options)
    )


def test_a_step_without_noise_follows_ddim(gaussian):
    """At eta 0 a reverse step is that of diffusers' DDIM; at eta 1 its mean is that of DDPM's posterior."""
    scheduler = prepare_scheduler(DDIMScheduler.from_config(gaussian.scheduler.config), 20, "cpu")
    x = torch.randn(2, 1, 1, SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    diffusion = Diffusion(gaussian.predict, scheduler, [torch.Generator()])
    eps = gaussian.predict(x, scheduler.timesteps[7])
    expected = scheduler.step(eps, scheduler.timesteps[7], x).prev_sample
    torch.testing.assert_close(diffusion.reverse_step(x, diffusion.clean(x, 7), 7), expected)
    ancestral = prepare_scheduler(gaussian.scheduler, 20, "cpu")
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    step = ancestral.step(eps, ancestral.timesteps[7], x, generator=torch.Generator().manual_seed(3)).prev_sample
    mean, sigma = Diffusion(gaussian.predict, ancestral, [torch.Generator()]).reverse(x, diffusion.clean(x, 7), 7)
    torch.testing.assert_close(mean + sigma * noise, step)


def test_systematic_resampling_keeps_each_particle_in_proportion():
    weights = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 0.0, 1.0]])
    for uniform in (0.0, 0.3, 0.999):
        assert systematic_resampling(weights, torch.full((2,), uniform)).tolist() == [[0, 0, 1, 2], [3, 3, 3, 3]]
    ancestors = systematic_resampling(torch.tensor([[0.3, 0.7]]).expand(2000, 2), torch.linspace(0, 0.9995, 2000))
    assert float((ancestors == 1).float().mean()) == pytest.approx(0.7, abs=0.002)


@pytest.mark.parametrize(
    ("method", "scheduler", "options", "message"),
    [
        ("magic", DDPMScheduler, {}, "method is 'magic'; it must be one of replace, repaint, dps, pigdm, tds, daps"),
        ("dps", DDPMScheduler, {"num_particles": 4}, "num_particles is 4; method 'dps' takes guidance_scale"),
        ("pigdm", DDPMScheduler, {"wrong": 1}, "wrong is 1; method 'pigdm' takes no options"),
        ("tds", DDPMScheduler, {"num_particles": 0}, "num_particles is 0; it must be a whole number from 1 on"),
        ("repaint", DDPMScheduler, {"resamplings": 2.5}, "resamplings is 2.5; it must be a whole number from 1 on"),
        ("dps", DDPMScheduler, {"guidance_scale": -1}, "guidance_scale is -1; it must be a number from 0 on"),
        ("repaint", DDPMScheduler, {"jump_length": 50}, "jump_length is 50; it must be below num_inference_steps, 50"),
        ("tds", DDIMScheduler, {}, "eta is None; method 'tds' needs noise in each step"),
        ("dps", DPMSolverMultistepScheduler, {}, "scheduler is DPMSolverMultistepScheduler; method 'dps' needs"),
    ],
)
def test_what_a_method_cannot_use_is_refused(method, scheduler, options, message):
    with pytest.raises(ValueError, match=message):
        check_method(method, scheduler(), STEPS, None, options)


def test_the_table_of_errors_has_a_row_per_method_and_steps():
    rows = gaussian_errors(steps=(12,), particles=(1, 2), num_samples=50)
    assert [row["method"] for row in rows] == [
        "exact samples",
        *(name for name in METHODS if name != "tds"),
        "tds 1 particles",
        "tds 2 particles",
    ]
    assert [row["evaluations"] for row in rows] == [None, 12, 102, 12, 12, 33, 12, 24]
    assert rows[0]["mean_error"] < 0.25 and 0.7 < rows[0]["variance_ratio"] < 1.3
