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


class MaskedGaussianDenoiser(torch.nn.Module):
    """The ideal noise prediction for grey images N(mean, covariance), noisy where the mask is 1 and clean elsewhere.

    Given the clean pixels y, hidden ones are N(m, S): m = mean_h + C_hs C_ss^-1 (y - mean_s), S = C_hh - C_hs C_ss^-1
    C_sh. For those it answers eps = sqrt(1 - abar) (abar S + (1 - abar) I)^-1 (x - sqrt(abar) m), for the others
    nonsense. The mask is the same in a batch.
    """

    def __init__(self, like, alphas_cumprod, mean, covariance):
        super().__init__()
        self.config, self.dtype, self.device = like.config, torch.float32, torch.device("cpu")
        self.alphas_cumprod, self.mean, self.covariance = alphas_cumprod.double(), mean, covariance

    def forward(self, sample, timestep, return_dict=True):
        x, mask = sample.double().flatten(2).unbind(1)
        hidden = mask[0] > 0
        gain = self.covariance[hidden][:, ~hidden] @ torch.linalg.inv(self.covariance[~hidden][:, ~hidden])
        mean = self.mean[hidden] + (x[:, ~hidden] - self.mean[~hidden]) @ gain.T
        covariance = self.covariance[hidden][:, hidden] - gain @ self.covariance[~hidden][:, hidden]
        abar = self.alphas_cumprod[int(timestep)]
        precision = torch.linalg.inv(abar * covariance + (1 - abar) * torch.eye(len(covariance)))
        answer = torch.full_like(x, 100.0)
        answer[:, hidden] = (1 - abar).sqrt() * (x[:, hidden] - abar.sqrt() * mean) @ precision
        return (answer.reshape(sample[:, :1].shape).to(self.dtype),)
