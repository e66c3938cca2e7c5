"""Scoring rules and calibration of K completions against one truth.

Features are (N, D) for the truths and (N, K, D) for K completions of each. Distances are Euclidean over sqrt(D): the
root mean square difference of two feature vectors.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Distances:
    """Distances in feature space for N faces and K completions of each.

    Args:
        to_truth: d(f(x_k), f(y)), (N, K).
        among: d(f(x_i), f(x_j)), (N, K, K).
    """

    to_truth: torch.Tensor
    among: torch.Tensor

    @property
    def pairwise(self) -> torch.Tensor:
        """Mean distance between two different completions, (N,); NaN for K = 1."""
        num = self.among.shape[-1]
        return self.among.sum(dim=(1, 2)) / (num * (num - 1))  # 0 / 0 for K = 1

    @property
    def energy_score(self) -> torch.Tensor:
        """ES = mean_k d(x_k, y) - 1/2 mean_{i != j} d(x_i, x_j), (N,) (Gneiting and Raftery 2007, equation 21).

        Its mean over faces is lowest for the true conditional distribution alone. Summing over i != j keeps it
        unbiased at any K (Ferro 2014); for K = 1 the second term is 0.
        """
        return self.to_truth.mean(dim=1) - self.pairwise.nan_to_num(0.0) / 2

    @property
    def eccentricity(self) -> torch.Tensor:
        """Mean distance of each member to the others, (N, K + 1), the truth first."""
        num = self.among.shape[-1]
        truth = self.to_truth.mean(dim=1, keepdim=True)
        others = (self.among.sum(dim=2) + self.to_truth) / num
        return torch.cat([truth, others], dim=1)


def distances(truth: torch.Tensor, completed: torch.Tensor) -> Distances:
    """Distances of truths (N, D) and completions (N, K, D)."""
    scale = truth.shape[1] ** -0.5
    exact = "donot_use_mm_for_euclid_dist"  # the faster way loses the small distances to rounding
    to_truth = torch.cdist(completed, truth[:, None], compute_mode=exact)[..., 0] * scale
    return Distances(to_truth, torch.cdist(completed, completed, compute_mode=exact) * scale)


def truth_ranks(truth: torch.Tensor, completed: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Ranks (N,) of truths (N,) among completions (N, K) by some number; uniform on 0 .. K for a calibrated sampler.

    Ties are broken at random (Hamill 2001). The number must treat truth and completions alike (Gneiting et al. 2008).
    """
    ties = (completed == truth[:, None]).sum(dim=1)
    share = torch.rand(len(truth), generator=torch.Generator().manual_seed(seed))
    return (completed < truth[:, None]).sum(dim=1) + (share * (ties + 1)).long()
