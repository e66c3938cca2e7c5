"""Distillation: the energy score is proper, and what is trained is what sampling does."""

import math

import pytest
import torch

from halfface_pipeline.config.schema import NoiseConfig
from halfface_pipeline.diffusion.distillation import (
    MEMBERS,
    distillation_loss,
    distilled_scheduler,
    energy_score,
    solution,
    timesteps_of,
)
from halfface_pipeline.diffusion.halves import split
from halfface_pipeline.diffusion.networks import build_network
from halfface_pipeline.diffusion.samplers import training_scheduler
from halfface_pipeline.remote_code.halves import predict, size_multiple
from tests.conftest import TINY_MODEL
from tests.oracles import GaussianDenoiser

SCHEDULER = training_scheduler(NoiseConfig(), "v_prediction")
TIMESTEPS = [999, 749, 499, 249]


@pytest.mark.parametrize("num_steps", [1, 2, 4])
def test_every_number_of_steps_takes_trained_timesteps(num_steps):
    sampler = distilled_scheduler(SCHEDULER, num_steps)
    trained = timesteps_of(sampler, num_steps)
    assert trained[0] == 999 and len(trained) == num_steps
    for fewer in range(1, num_steps + 1):
        assert set(timesteps_of(sampler, fewer)) <= set(trained)


def test_the_shortcut_is_the_path_of_two_steps():
    sampler = distilled_scheduler(SCHEDULER, 4)
    assert timesteps_of(sampler, 4) == TIMESTEPS
    assert timesteps_of(sampler, 2) == [TIMESTEPS[0], TIMESTEPS[2]]


@pytest.mark.parametrize("steps", [2, 4])
def test_the_student_is_trained_on_the_inputs_of_diffusers_sampler(steps):
    torch.manual_seed(0)
    network, inputs = build_network(TINY_MODEL, 20, 16).eval(), []
    clean, noise = torch.rand(2, 3, 20, 16) * 2 - 1, torch.randn(2, 4 * MEMBERS * 3, 10, 16)
    network.register_forward_pre_hook(lambda module, arguments: inputs.append(arguments[0][0]))
    drawn = torch.tensor([steps == 2, 0]).long()
    with torch.no_grad():
        distillation_loss(network, network, SCHEDULER, TINY_MODEL, TIMESTEPS, clean, drawn, noise)
    # Each estimate that follows the teacher's solution takes five evaluations; the known half is in other channels.
    given = [inputs[place][:3] for place in (0, 1, 2, 7)]
    sampler = distilled_scheduler(SCHEDULER, 4)
    sampler.set_timesteps(steps)
    noises, latents = noise[0].unflatten(0, (4, MEMBERS, 3))[:, 0], noise[:1, :3]
    for index, t in enumerate(sampler.timesteps):
        level = TIMESTEPS.index(int(t))
        assert torch.allclose(latents[0], given[level], atol=1e-5)
        known = split(clean[:1], "bottom")[0]
        with torch.no_grad():
            prediction = predict(network, latents, known, t, TINY_MODEL.known_layout, size_multiple(network))
        denoised = sampler.step(prediction, t, latents, return_dict=False)[1]
        if index + 1 < steps:
            following = int(sampler.timesteps[index + 1])
            latents = SCHEDULER.add_noise(
                denoised, noises[None, TIMESTEPS.index(following)], torch.tensor([following])
            )


def test_the_solution_of_the_teacher_converges_to_that_of_gaussian_images(monkeypatch):
    """For x_0 ~ N(m, s^2) the ODE keeps the quantile: x_0 = m + s (x_t - a m) / sqrt(a^2 s^2 + 1 - a^2)."""
    pipe_like = build_network(TINY_MODEL, 20, 16)
    teacher = GaussianDenoiser(pipe_like, SCHEDULER.alphas_cumprod, 0.3, 0.2, "v_prediction")
    noisy, known = torch.randn(4, 3, 10, 16), torch.zeros(4, 3, 10, 16)
    for t in (499, 249):
        a = float(SCHEDULER.alphas_cumprod[t]) ** 0.5
        exact = 0.3 + 0.2 * (noisy - a * 0.3) / (a**2 * 0.04 + 1 - a**2) ** 0.5
        errors = []
        for evaluations in (4, 16):
            monkeypatch.setattr("halfface_pipeline.diffusion.distillation.SOLVER_STEPS", evaluations)
            found = solution(teacher, SCHEDULER, TINY_MODEL, noisy, known, t)
            errors.append(float((found - exact).square().mean().sqrt()))
        assert errors[0] < 0.05 and errors[1] < 0.01, errors


def test_the_energy_score_of_one_pixel_is_its_formula():
    first, second, truth = (torch.full((1, 1, 1, 1), value) for value in (0.5, 0.9, 0.1))
    # One pixel has no details, and each of the four windows is the pixel.
    score = float(energy_score(torch.stack([first, second], dim=1), truth))
    assert score == pytest.approx((0.4 + 0.8) / 2 - 0.4 / 2, abs=1e-3)


@pytest.mark.parametrize("wrong", ["narrow", "wide", "shifted", "smooth"])
def test_the_energy_score_is_lowest_for_the_distribution_of_the_truth(wrong):
    generator = torch.Generator().manual_seed(0)
    truth, *samples = torch.randn(3, 4000, 1, 6, 6, generator=generator)
    right = torch.stack(samples, dim=1)
    blurred = torch.nn.functional.avg_pool2d(right.flatten(0, 1), 3, 1, 1).unflatten(0, (-1, 2))
    other = {"narrow": 0.7 * right, "wide": 1.4 * right, "shifted": right + 0.4, "smooth": blurred}[wrong]
    assert float(energy_score(right, truth)) < float(energy_score(other, truth)) - 0.01


def test_a_generator_learns_mean_and_deviation_of_gaussian_images():
    """A network of two numbers, by which one step samples N(0.3, 0.2) exactly: x_0 = 0.3 + 0.2 x_T."""

    class Affine(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mean, self.log_scale = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
            self.config = type("Config", (), {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",)})()

        def forward(self, sample, timestep, return_dict=True):
            return (self.mean + torch.exp(self.log_scale) * sample[:, :3],)

    torch.manual_seed(0)
    network, scheduler = Affine(), training_scheduler(NoiseConfig(), "sample")
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    for _ in range(300):
        clean, noise = 0.3 + 0.2 * torch.randn(32, 3, 8, 4), torch.randn(32, MEMBERS * 3, 4, 4)
        drawn = torch.zeros(32, dtype=torch.long)
        loss = distillation_loss(network, network, scheduler, TINY_MODEL, [999], clean, drawn, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(network.mean.detach()) == pytest.approx(0.3, abs=0.02)
    assert float(network.log_scale.detach()) == pytest.approx(math.log(0.2), abs=0.06)
