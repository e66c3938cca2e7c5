"""Samplers of the posterior on Gaussian images, where denoiser and posterior are closed forms."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import DDPMScheduler, SchedulerMixin

from ..remote_code.noise_levels import prepare_scheduler
from ..remote_code.posterior import METHODS, Diffusion, check_method, evaluations
from .results import Row

PARTICLES = (1, 8, 64)
STEPS = (25, 50, 100)


class GaussianImages:
    """Images N(mean, covariance) of one row, the right half hidden, and a sample of them whose left half is seen.

    `hidden` (booleans) and `seen` are (1, 1, 1, size); the posterior's mean and covariance are those of the hidden
    pixels; the scheduler is the forward process, which clips nothing.
    """

    def __init__(self, size: int = 16, prediction_type: str = "epsilon") -> None:
        generator = torch.Generator().manual_seed(0)
        factors = torch.randn(size, size, generator=generator, dtype=torch.float64)
        covariance = factors @ factors.T / size + 0.05 * torch.eye(size, dtype=torch.float64)
        self.covariance = 0.36 * covariance / covariance.diagonal().mean()
        self.mean = 0.3 * torch.randn(size, generator=generator, dtype=torch.float64)
        self._values, self._vectors = torch.linalg.eigh(self.covariance)
        generator.manual_seed(7)
        noise = torch.randn(size, generator=generator, dtype=torch.float64)
        image = self.mean + torch.linalg.cholesky(self.covariance) @ noise
        hidden = torch.arange(size) >= size // 2
        self.hidden, self.seen = hidden.reshape(1, 1, 1, size), image.reshape(1, 1, 1, size)
        cross = self.covariance[hidden][:, ~hidden]
        gain = cross @ torch.linalg.inv(self.covariance[~hidden][:, ~hidden])
        self.posterior_mean = self.mean[hidden] + gain @ (image - self.mean)[~hidden]
        self.posterior_covariance = self.covariance[hidden][:, hidden] - gain @ cross.T
        self.scheduler = DDPMScheduler(clip_sample=False, timestep_spacing="trailing", prediction_type=prediction_type)

    def predict(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """The exact prediction for x_t, (N, 1, 1, size)."""
        abar = self.scheduler.alphas_cumprod.double()[int(timestep)]
        noisy = x.flatten(1).double()
        centred = (noisy - abar.sqrt() * self.mean) @ self._vectors
        eps = ((1 - abar).sqrt() * centred / (abar * self._values + 1 - abar)) @ self._vectors.T
        clean = (noisy - (1 - abar).sqrt() * eps) / abar.sqrt()
        answers = {"epsilon": eps, "sample": clean, "v_prediction": abar.sqrt() * eps - (1 - abar).sqrt() * clean}
        return answers[self.scheduler.config.prediction_type].reshape(x.shape)

    @torch.no_grad()
    def sample(
        self,
        method: str,
        num_samples: int = 1000,
        num_steps: int = 50,
        scheduler: SchedulerMixin | None = None,
        seed: int = 1,
        eta: float | None = None,
        hidden: torch.Tensor | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, float, torch.Tensor | None]:
        """Samples of the hidden pixels, by default the right half, by a method of `METHODS` with options.

        Returns hidden pixels (N, size / 2) float64, evaluations per sample and effective sample sizes.
        """
        own = prepare_scheduler(scheduler or self.scheduler, num_steps, "cpu")
        generator = torch.Generator().manual_seed(seed)
        diffusion = Diffusion(self.predict, own, [generator], eta)
        start = torch.randn(num_samples, *self.seen.shape[1:], generator=generator, dtype=torch.float64)
        mask = self.hidden if hidden is None else hidden
        draw = METHODS[method](diffusion, start, self.seen.expand_as(start), mask, **options)
        images = draw.clean.flatten(1)[:, mask.flatten()]
        return images, diffusion.num_evaluations / num_samples, draw.effective_sample_size

    def mean_error(self, images: torch.Tensor) -> float:
        """Distance of the samples' mean from the posterior's, in deviations of the prior."""
        hidden = self.hidden.flatten()
        variance = self.covariance[hidden][:, hidden].trace()
        return float((images.mean(0) - self.posterior_mean).norm() / variance.sqrt())

    def covariance_error(self, images: torch.Tensor) -> float:
        """Frobenius distance of the samples' covariance from the posterior's, over the norm of the prior's."""
        hidden = self.hidden.flatten()
        difference = torch.cov(images.T) - self.posterior_covariance
        return float(difference.norm() / self.covariance[hidden][:, hidden].norm())

    def variance_ratio(self, images: torch.Tensor) -> float:
        """Total variance of the samples over the posterior's."""
        return float(torch.cov(images.T).trace() / self.posterior_covariance.trace())


def gaussian_errors(
    steps: Sequence[int] = STEPS, particles: Sequence[int] = PARTICLES, num_samples: int = 500, seed: int = 1
) -> list[Row]:
    """Errors of every method against the exact posterior, for `tds` with so many particles, and of exact samples."""
    images = GaussianImages()
    noise = torch.randn(num_samples, len(images.posterior_mean), generator=torch.Generator().manual_seed(seed))
    exact = images.posterior_mean + noise.double() @ torch.linalg.cholesky(images.posterior_covariance).T
    rows = [_row(images, exact, "exact samples", None, None)]
    for number in steps:
        runs: list[tuple[str, Mapping[str, Any]]] = [(method, {}) for method in METHODS if method != "tds"]
        for method, options in [*runs, *(("tds", {"num_particles": count}) for count in particles)]:
            check_method(method, images.scheduler, number, None, dict(options))
            samples, _, _ = images.sample(method, num_samples, number, seed=seed, **options)
            title = f"tds {options['num_particles']} particles" if options else method
            rows.append(_row(images, samples, title, number, evaluations(method, number, dict(options))))
    return rows


def _row(images: GaussianImages, samples: torch.Tensor, method: str, steps: int | None, calls: int | None) -> Row:
    return {
        "method": method,
        "steps": steps,
        "evaluations": calls,
        "mean_error": images.mean_error(samples),
        "covariance_error": images.covariance_error(samples),
        "variance_ratio": images.variance_ratio(samples),
    }
