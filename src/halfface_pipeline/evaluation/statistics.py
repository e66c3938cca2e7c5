"""Estimates with intervals, and significance tests, over faces.

What is resampled or permuted is always a face with all its completions, since completions of one half depend on each
other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
import torch

RESAMPLES = 1000
PERMUTATIONS = 999
LEVEL = 0.95
SIGNIFICANT = 0.05
"""P-values and false discovery rates below this are reported as differences."""
BATCH_NUMBERS = 2_000_000
"""Numbers that a permutation test holds at once."""
NAN = float("nan")


@dataclass(frozen=True)
class Estimate:
    """A mean or ratio over faces.

    Args:
        value: The estimate.
        low: Lower end of its interval at `LEVEL`; NaN for a single face.
        high: Upper end.
        num_faces: Faces that have a value.
    """

    value: float
    low: float
    high: float
    num_faces: int


@dataclass(frozen=True)
class Test:
    """Result of a significance test.

    Args:
        statistic: Distance of the data from the null hypothesis.
        p_value: Probability of at least this distance under the null hypothesis.
        num_faces: Faces tested.
    """

    statistic: float
    p_value: float
    num_faces: int


def resampled_means(values: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Means (`RESAMPLES`, M) of columns (N, M) over bootstrap resamples of the faces (Efron 1979).

    All columns share the resamples; NaN means that a face has no value. One product of a matrix of counts with all
    columns is ten times as fast as `scipy.stats.bootstrap`.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(values), (RESAMPLES, len(values)), generator=generator)
    ones = torch.ones(1, 1, dtype=torch.float64).expand_as(chosen)
    counts = torch.zeros(chosen.shape, dtype=torch.float64).scatter_add_(1, chosen, ones)
    return (counts @ values.nan_to_num(0.0).double()) / (counts @ (~values.isnan()).double())


def interval(resampled: torch.Tensor) -> torch.Tensor:
    """Ends (2, M) of the percentile interval of each column of resampled values, (B, M)."""
    outside = (1 - LEVEL) / 2
    return torch.nanquantile(resampled, torch.tensor([outside, 1 - outside], dtype=resampled.dtype), dim=0)


def estimates(
    values: torch.Tensor,
    statistic: Callable[[torch.Tensor], torch.Tensor] | None = None,
    resampled: torch.Tensor | None = None,
) -> list[Estimate]:
    """Estimates of the means of columns (N, M) over faces, or of a statistic (..., S) of these means (..., M).

    The intervals are percentile bootstrap intervals, from the `resampled_means` of these columns. NaN means that a
    face has no value; a statistic needs all values.
    """
    means, counts = values.double().nanmean(dim=0), (~values.isnan()).sum(dim=0)
    resampled = resampled_means(values) if resampled is None else resampled
    if statistic is not None:
        means, resampled = statistic(means), statistic(resampled)
        counts = counts[:1].expand_as(means)
    ends = torch.where(counts > 1, interval(resampled), NAN)
    return [Estimate(*each) for each in zip(*(row.tolist() for row in (means, *ends, counts)), strict=True)]


def mean_estimates(values: Mapping[str, torch.Tensor]) -> dict[str, Estimate]:
    """Estimates of means over faces by name; each is (N,), NaN where a face has no value."""
    if not values:
        return {}
    return dict(zip(values, estimates(torch.stack(list(values.values()), dim=1)), strict=True))


def mean_estimate(values: torch.Tensor) -> Estimate:
    """The estimate of the mean of (N,) values over faces, NaN where a face has no value."""
    return estimates(values[:, None])[0]


def ratio_estimate(numerator: torch.Tensor, denominator: torch.Tensor) -> Estimate:
    """The ratio of two means over the same faces, (N,) each, which are resampled together."""
    return estimates(torch.stack([numerator, denominator], dim=1), lambda means: means[..., :1] / means[..., 1:])[0]


def agreement_estimates(predicted: torch.Tensor, rated: torch.Tensor) -> dict[str, Estimate]:
    """How well predictions (N,) follow ratings (N,), NaN where a face has none.

    These are `correlation`; `r2`, the variance explained, below 0 where the mean rating would predict better; and
    `slope`, the change of the prediction per unit of rating.
    """
    complete = ~rated.isnan()
    x, y = predicted[complete].double(), rated[complete].double()
    x, y = x - y.mean(), y - y.mean()

    def figures(means: torch.Tensor) -> torch.Tensor:
        mean_x, mean_y, xx, yy, xy = means.unbind(dim=-1)
        var_x, var_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
        parts = [covariance / (var_x * var_y).sqrt(), 1 - (xx - 2 * xy + yy) / var_y, covariance / var_y]
        return torch.stack(parts, dim=-1)

    moments = torch.stack([x, y, x * x, y * y, x * y], dim=1)
    return dict(zip(("correlation", "r2", "slope"), estimates(moments, figures), strict=True))


def exchange_test(real: torch.Tensor, completed: torch.Tensor) -> Test:
    """Tests whether a number has the same distribution on real faces (N,) and on their completions (N, K).

    The statistic is the Kolmogorov-Smirnov distance of the two samples. If completions come from p(hidden | known),
    the truth is exchangeable with them given the known half, so permuting the K + 1 members of each face gives the
    null distribution without further assumptions.
    """
    members = [column.double().numpy() for column in (real, *completed.unbind(dim=1))]
    return _permutation_tests(members, _ks_distance, "samples", len(real))[0]


def _ks_distance(real: np.ndarray, *completed: np.ndarray, axis: int = -1) -> Any:
    """`scipy.stats.ks_2samp(...).statistic`, vectorized along an axis."""
    values = np.concatenate([real, *completed], axis=axis)
    num_real, num_completed = real.shape[axis], values.shape[axis] - real.shape[axis]
    order = np.argsort(values, axis=axis)
    ordered = np.take_along_axis(values, order, axis)
    gaps = np.cumsum(np.where(order < num_real, 1 / num_real, -1 / num_completed), axis=axis)
    # Within a run of equal values the distribution functions have not reached their values yet.
    tied = np.diff(ordered, axis=axis, append=np.inf) == 0
    return np.where(tied, 0, np.abs(gaps)).max(axis=axis)


def slice_gap_tests(slices: Sequence[torch.Tensor]) -> list[Test]:
    """Tests, per metric, whether the worst and the best slice differ more than randomly assigned faces would.

    Slices are (n, M) positive values of their faces; the statistic is the largest over the smallest mean of a slice.
    """
    samples = [values.double().numpy().T for values in slices]
    return _permutation_tests(samples, _ratio_of_extremes, "independent", sum(map(len, slices)))


def _ratio_of_extremes(*samples: np.ndarray, axis: int = -1) -> Any:
    means = np.stack([sample.mean(axis=axis) for sample in samples])
    with np.errstate(divide="ignore", invalid="ignore"):  # the best slice may be without error
        return means.max(axis=0) / means.min(axis=0)


def _permutation_tests(samples: list[np.ndarray], statistic: Any, kind: str, num_faces: int) -> list[Test]:
    with np.errstate(invalid="ignore"):  # an infinite statistic
        found = scipy.stats.permutation_test(
            samples,
            statistic,
            permutation_type=kind,
            vectorized=True,
            n_resamples=PERMUTATIONS,
            batch=max(1, BATCH_NUMBERS // sum(sample.size for sample in samples)),
            alternative="greater",
            axis=-1,
            rng=0,
        )
    pairs = zip(np.atleast_1d(found.statistic).tolist(), np.atleast_1d(found.pvalue).tolist(), strict=True)
    return [Test(distance, p_value, num_faces) for distance, p_value in pairs]


def uniform_ranks_test(ranks: torch.Tensor, num_ranks: int) -> Test:
    """Pearson's chi-square test that ranks from 0 to num_ranks - 1 are uniform, as for a calibrated sampler."""
    found = scipy.stats.chisquare(torch.bincount(ranks, minlength=num_ranks).numpy())
    return Test(float(found.statistic), float(found.pvalue), len(ranks))
