"""Exact denoisers: networks whose every answer, and so every sample, is known in closed form."""

import torch


class GaussianDenoiser(torch.nn.Module):
    """The ideal noise prediction for data whose pixels are independent N(mean, deviation^2).

    eps = sqrt(1 - abar) (x - sqrt(abar) mean) / (abar deviation^2 + 1 - abar); deviation 0 is a constant image.
    It stands where a trained `UNet2DModel` would, with that network's configuration, and answers in `dtype`.
    """

    def __init__(self, like, alphas_cumprod, mean, deviation, prediction_type="epsilon", dtype=torch.float32):
        super().__init__()
        self.config, self.dtype, self.device = like.config, dtype, torch.device("cpu")
        self.log_odds = ((1 - alphas_cumprod.double()) / alphas_cumprod.double()).log()
        self.mean, self.deviation, self.prediction_type = mean, deviation, prediction_type
        self.timesteps = []

    def abar(self, timestep):
        """abar at a whole or fractional timestep, interpolated in the log of the noise-to-signal ratio."""
        low = min(int(timestep), len(self.log_odds) - 2)
        share = float(timestep) - low
        return 1 / (1 + torch.exp((1 - share) * self.log_odds[low] + share * self.log_odds[low + 1]))

    def forward(self, sample, timestep, return_dict=True):
        self.timesteps.append(float(timestep))
        x = sample[:, :3].double()
        abar = self.abar(timestep)
        eps = (1 - abar).sqrt() * (x - abar.sqrt() * self.mean) / (abar * self.deviation**2 + 1 - abar)
        clean = (x - (1 - abar).sqrt() * eps) / abar.sqrt()
        answer = {"epsilon": eps, "sample": clean, "v_prediction": abar.sqrt() * eps - (1 - abar).sqrt() * clean}
        return (answer[self.prediction_type].to(self.dtype),)
