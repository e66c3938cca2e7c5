"""Targets and weights against their formulas."""

import pytest
import torch

from halfface_pipeline.config.schema import NoiseConfig
from halfface_pipeline.diffusion.parameterization import min_snr_weights, noise_and_clean, target, weighted_mse
from halfface_pipeline.diffusion.samplers import training_scheduler

TIMESTEPS = torch.tensor([0, 10, 500, 999])


def abar(timesteps):
    """abar_t of the report's schedule, from its definition, in float64."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    return torch.cumprod(1 - beta, 0)[timesteps]


def test_every_target_recovers_the_clean_image_from_the_noisy_one():
    clean, noise = torch.randn(4, 3, 5, 6).double(), torch.randn(4, 3, 5, 6).double()
    a = abar(TIMESTEPS)[:, None, None, None]
    signal, sigma = a.sqrt(), (1 - a).sqrt()
    noisy = signal * clean + sigma * noise
    recovered = {}
    for prediction_type in ("epsilon", "v_prediction", "sample"):
        scheduler = training_scheduler(NoiseConfig(), prediction_type)
        assert torch.allclose(scheduler.add_noise(clean, noise, TIMESTEPS), noisy, atol=1e-5)
        recovered[prediction_type] = target(scheduler, clean, noise, TIMESTEPS)
        for found, true in zip(
            noise_and_clean(scheduler, recovered[prediction_type], noisy, TIMESTEPS), (noise, clean), strict=True
        ):
            assert torch.allclose(found, true, atol=1e-3)
    assert torch.equal(recovered["sample"], clean)
    assert torch.equal(recovered["epsilon"], noise)
    assert torch.allclose(signal * noisy - sigma * recovered["v_prediction"], clean, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 5.0])
def test_min_snr_weighs_the_same_error_of_x0_alike_whatever_is_predicted(gamma):
    """An error d of x_0 is an error sqrt(SNR) d of eps and sqrt(SNR + 1) d of v (Hang et al. 2023)."""
    snr = (abar(TIMESTEPS) / (1 - abar(TIMESTEPS))).float()
    per_x0_error = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones(4)}
    for prediction_type, factor in per_x0_error.items():
        weights = min_snr_weights(training_scheduler(NoiseConfig(), prediction_type), TIMESTEPS, gamma)
        torch.testing.assert_close(weights * factor, snr.clamp(max=gamma), rtol=1e-3, atol=0)


def test_without_gamma_all_timesteps_weigh_one():
    weights = min_snr_weights(training_scheduler(NoiseConfig(), "epsilon"), TIMESTEPS, None)
    assert torch.equal(weights, torch.ones(4))


def test_weighted_mse_is_the_weighted_mean_of_each_images_error():
    prediction, wanted = torch.zeros(2, 3, 2, 2), torch.stack([torch.full((3, 2, 2), 1.0), torch.full((3, 2, 2), 3.0)])
    assert weighted_mse(prediction, wanted, torch.tensor([2.0, 0.5])) == pytest.approx((2 * 1 + 0.5 * 9) / 2)
