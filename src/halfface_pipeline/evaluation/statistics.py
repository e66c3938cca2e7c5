"""Intervals over faces. What is resampled is always a face with all its completions, never a completion:
completions of one half are not independent of each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

RESAMPLES = 1000
LEVEL = 0.95
BLOCK = 1_000_000
"""Numbers held at once while resampling, so that memory does not grow with the number of faces."""


@dataclass(frozen=True)
class Estimate:
    """A mean or ratio over faces.

    Attributes:
        value: The estimate.
        low: Lower end of its interval at `LEVEL`; NaN for a single face.
        high: Upper end.
        num_faces: Faces that have a value.
    """

    value: float
    low: float
    high: float
    num_faces: int


def _resampled_counts(num_faces: int, resamples: int, seed: int) -> Iterator[torch.Tensor]:
    """How often each face is drawn in each bootstrap resample: (b, N) counts, block by block until all B are drawn."""
    generator = torch.Generator().manual_seed(seed)
    at_once = max(1, min(resamples, BLOCK // max(1, num_faces)))
    for first in range(0, resamples, at_once):
        num = min(at_once, resamples - first)
        drawn = torch.randint(num_faces, (num, num_faces), generator=generator)
        yield torch.zeros(num, num_faces).scatter_add_(1, drawn, torch.ones(num, num_faces))


def resampled_means(values: torch.Tensor, resamples: int = RESAMPLES, seed: int = 0) -> torch.Tensor:
    """Means of every column over bootstrap resamples of the faces (Efron 1979), all columns on the same resamples.

    Args:
        values: (N, M); NaN where a face has no value.
        resamples: B.
        seed: Of the resamples.

    Returns:
        (B, M); NaN where a resample drew no face with a value.
    """
    there = ~values.isnan()
    filled, weights = values.nan_to_num(0.0).double(), there.double()
    means = []
    for counts in _resampled_counts(len(values), resamples, seed):
        means.append((counts.double() @ filled) / (counts.double() @ weights))
    return torch.cat(means)


def mean_estimate(values: torch.Tensor, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean over faces with its percentile bootstrap interval.

    Args:
        values: (N,); NaN where a face has no value.
        resamples: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        The estimate; its value is NaN if no face has one.
    """
    return mean_estimates({"": values}, resamples, seed)[""]


def mean_estimates(values: dict[str, torch.Tensor], resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Estimate]:
    """As `mean_estimate`, for several values of the same faces at once.

    Args:
        values: (N,) each, by name.
        resamples: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        Estimates by name.
    """
    if not values:
        return {}
    together = torch.stack(list(values.values()), dim=1)
    return dict(zip(values, estimates_of(together, resampled_means(together, resamples, seed)), strict=True))


def estimates_of(values: torch.Tensor, means: torch.Tensor) -> list[Estimate]:
    """Estimates of M columns from their resampled means.

    Args:
        values: (N, M); NaN where a face has no value.
        means: (B, M) from `resampled_means`.

    Returns:
        M estimates.
    """
    numbers = values.double().nanmean(dim=0).tolist()
    there = (~values.isnan()).sum(dim=0).tolist()
    nothing = float("nan"), float("nan")
    return [
        Estimate(number, *(ends if num > 1 else nothing), num)
        for number, ends, num in zip(numbers, interval(means), there, strict=True)
    ]


def ratio_estimate(
    numerator: torch.Tensor, denominator: torch.Tensor, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """The ratio of two means over the same faces, numerator and denominator resampled together.

    Args:
        numerator: (N,); NaN where a face has no value.
        denominator: (N,).
        resamples: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        The estimate.
    """
    there = ~(numerator.isnan() | denominator.isnan())
    together = torch.stack([numerator[there], denominator[there]], dim=1)
    if len(together) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    value = float(together[:, 0].double().mean() / together[:, 1].double().mean())
    means = resampled_means(together, resamples, seed)
    low, high = interval(means[:, :1] / means[:, 1:])[0] if len(together) > 1 else (float("nan"), float("nan"))
    return Estimate(value, low, high, len(together))


def agreement_estimates(
    read: torch.Tensor, rated: torch.Tensor, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Estimate]:
    """How well what is read off faces follows what they are rated.

    Args:
        read: (N,).
        rated: (N,); NaN where a face has no rating.
        resamples: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        `correlation`; `r2`, the variance explained, below 0 where the mean rating would be nearer; and `slope`, what
        is read for each unit of rating, below 1 where a reader keeps to the middle.
    """
    there = ~rated.isnan()
    x, y = read[there].double(), rated[there].double()
    x, y = x - y.mean(), y - y.mean()
    moments = torch.stack([x, y, x * x, y * y, x * y], dim=1)

    def figures(means: torch.Tensor) -> torch.Tensor:
        mean_x, mean_y, xx, yy, xy = means.unbind(dim=-1)
        var_x, var_y, together = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
        return torch.stack(
            [together / (var_x * var_y).sqrt(), 1 - (xx - 2 * xy + yy) / var_y, together / var_y], dim=-1
        )

    ends = interval(figures(resampled_means(moments, resamples, seed)))
    values = figures(moments.mean(dim=0)).tolist()
    names = ("correlation", "r2", "slope")
    return {name: Estimate(value, *end, len(x)) for name, value, end in zip(names, values, ends, strict=True)}


def interval(draws: torch.Tensor) -> list[tuple[float, float]]:
    """Percentile interval of each column of resampled values, (B, M)."""
    outside = (1 - LEVEL) / 2
    ends = torch.nanquantile(draws, torch.tensor([outside, 1 - outside], dtype=draws.dtype), dim=0)
    return [(float(low), float(high)) for low, high in ends.T]
