"""Metrics by subgroup: faces are sliced by metadata columns or procedural factors."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import scipy.stats
import torch

from .columns import MAX_VALUES
from .metrics.registry import find_metric
from .statistics import estimates, interval, resampled_means, slice_gap_tests

MIN_FACES = 10
"""Smaller slices are shown but not compared."""
QUANTILES = 4
Values = Mapping[str, torch.Tensor]
"""(N,) values by metric."""


def slices_of(values: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Slices faces by a column (N,): by value if it has few, otherwise at its quartiles.

    The result is the names of the slices and the index of each face's slice, (N,), -1 where its value is NaN or empty.
    """
    if values.dtype.kind == "U":
        texts = np.unique(values[values != ""])
        return [str(text) for text in texts], np.where(values == "", -1, np.searchsorted(texts, values))
    values = values.astype(np.float64)
    known = ~np.isnan(values)
    kinds = np.unique(values[known])
    if len(kinds) <= 2 or (len(kinds) <= MAX_VALUES and bool((kinds == kinds.round()).all())):
        return [f"{kind:g}" for kind in kinds], np.where(known, np.searchsorted(kinds, values), -1)
    edges = np.unique(np.quantile(values[known], np.linspace(0, 1, QUANTILES + 1)))
    indices = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    names = [f"{low:.3g} to {high:.3g}" for low, high in itertools.pairwise(edges)]
    return names, np.where(known, indices, -1)


def audit(columns: Mapping[str, np.ndarray], model: Values, floor: Values, ceiling: Values) -> dict[str, Any]:
    """Every metric by slice of every column (N,): `slices` and `gaps`, as docs/evaluation.md describes them.

    The false discovery rate (Benjamini and Hochberg 1995) is that among the gaps of all columns.
    """
    found = {name: _slice_column(values, model, floor, ceiling) for name, values in columns.items()}
    gaps = [gap for part in found.values() for gap in part["gaps"].values()]
    rates = scipy.stats.false_discovery_control([gap["p_value"] for gap in gaps]).tolist() if gaps else []
    for gap, rate in zip(gaps, rates, strict=True):
        gap["q_value"] = rate
    return found


def _slice_column(values: np.ndarray, model: Values, floor: Values, ceiling: Values) -> dict[str, Any]:
    names, indices = slices_of(values)
    metrics = torch.stack(list(model.values()), dim=1)
    slices, compared = [], {}
    for index, name in enumerate(names):
        rows = torch.from_numpy(indices == index)
        if not bool(rows.any()):
            continue
        resampled = resampled_means(metrics[rows], seed=index)
        measures = {
            metric: {**asdict(estimate), "floor": _mean(floor, metric, rows), "ceiling": _mean(ceiling, metric, rows)}
            for metric, estimate in zip(model, estimates(metrics[rows], resampled=resampled), strict=True)
        }
        slices.append({"name": name, "num_faces": int(rows.sum()), "measures": measures})
        if int(rows.sum()) >= MIN_FACES:
            compared[name] = (metrics[rows], resampled)
    complete = (~metrics.isnan().any(dim=0)).tolist()
    low = [at for at, name in enumerate(model) if complete[at] and find_metric(name).better == "lower"]
    return {"slices": slices, "gaps": _gaps(list(model), low, compared) if low and len(compared) > 1 else {}}


def _mean(baseline: Values, metric: str, rows: torch.Tensor) -> float | None:
    return float(baseline[metric][rows].nanmean()) if metric in baseline else None


def _gaps(
    metrics: list[str], low: list[int], slices: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
) -> dict[str, Any]:
    """The worst against the best slice, (values, resampled means) each, by the metrics at the indices `low`."""
    names, gaps = list(slices), {}
    means = torch.stack([values.double().mean(dim=0) for values, _ in slices.values()])
    resampled = torch.stack([each for _, each in slices.values()])
    for at, test in zip(low, slice_gap_tests([values[:, low] for values, _ in slices.values()]), strict=True):
        if not math.isfinite(test.statistic):
            continue  # the best slice is without error
        worst, best = int(means[:, at].argmax()), int(means[:, at].argmin())
        lower, upper = interval((resampled[worst, :, at] / resampled[best, :, at])[:, None])[:, 0].tolist()
        gaps[metrics[at]] = {
            "worst": names[worst],
            "best": names[best],
            "ratio": test.statistic,
            "low": lower,
            "high": upper,
            "p_value": test.p_value,
            "q_value": None,
        }
    return gaps
