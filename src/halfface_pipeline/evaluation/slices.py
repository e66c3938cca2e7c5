"""Whether some faces are completed worse than others: every measure by slice, and signed shifts of colour."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch

from ..data.procedural.factors import GLASSES, NECKLINES, Factors
from .catalogue import DARK_HAIR, describe
from .metrics.colour import to_lab
from .significance import false_discovery_rates, slice_gap_tests
from .statistics import estimates_of, interval, resampled_means
from .trials import hair_colours

LEAST_FACES = 10
"""A slice of fewer faces is shown and takes no part in the comparison of slices."""
MOST_VALUES = 8
"""A column of whole numbers with at most so many different ones is sliced by value, any other by quantiles."""
QUANTILES = 4


def columns_of(attributes: Mapping[str, np.ndarray], factors: Factors | None) -> dict[str, np.ndarray]:
    """Everything that faces can be sliced by.

    Args:
        attributes: Metadata columns, (N,) numbers or strings each.
        factors: What procedural faces are drawn from; none for photographs.

    Returns:
        (N,) numbers or strings by name.
    """
    columns = dict(attributes)
    if factors is None:
        return columns
    for field in fields(Factors):
        values = getattr(factors, field.name)
        if values.ndim == 1:
            columns[field.name] = values
        else:
            columns[f"{field.name}_lightness"] = _lightness(values)
    columns["glasses"] = np.array(GLASSES)[factors.glasses.astype(int)]
    columns["neckline"] = np.array(NECKLINES)[factors.neckline.astype(int)]
    columns["hair_colour"] = np.array(hair_colours(factors))
    return columns


def _lightness(colours: np.ndarray) -> np.ndarray:
    return to_lab(torch.from_numpy(colours)[..., None, None])[:, 0, 0, 0].numpy()


def choose(columns: Mapping[str, np.ndarray], names: Sequence[str], num_faces: int) -> dict[str, np.ndarray]:
    """The columns asked for; `all` takes every one.

    Args:
        columns: What there is.
        names: What is asked for.
        num_faces: Faces evaluated.

    Returns:
        The columns, cut to the faces evaluated.

    Raises:
        ValueError: If a column is missing, or there are too few faces to compare slices.
    """
    if not names:
        return {}
    if num_faces < 2 * LEAST_FACES:
        raise ValueError(
            f"num_faces is {num_faces}; slices need at least {2 * LEAST_FACES}, {LEAST_FACES} in each of two"
        )
    if list(names) == ["all"]:
        names = list(columns)
    missing = [name for name in names if name not in columns]
    if missing or not names:
        there = ", ".join(columns) or "none: the data have no column"
        raise ValueError(f"slices has {', '.join(missing) or 'nothing to take'}; the columns are {there}")
    return {name: columns[name][:num_faces] for name in names}


def slices_of(values: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Cuts faces into slices by a column: by value if it has few, else at its quartiles.

    Args:
        values: (N,) numbers, NaN where missing, or strings, empty where missing.

    Returns:
        Names of the slices, and the slice of each face, (N,) whole numbers, -1 where the value is missing.
    """
    if values.dtype.kind in "US":
        texts = np.unique(values[values != ""])
        places = np.where(values == "", -1, np.searchsorted(texts, values))
        return [str(text) for text in texts], places
    values = values.astype(np.float64)
    there = ~np.isnan(values)
    kinds = np.unique(values[there])
    if len(kinds) <= 2 or (len(kinds) <= MOST_VALUES and bool((kinds == kinds.round()).all())):
        places = np.where(there, np.searchsorted(kinds, np.where(there, values, kinds[0] if len(kinds) else 0)), -1)
        return [f"{kind:g}" for kind in kinds], places
    edges = np.unique(np.quantile(values[there], np.linspace(0, 1, QUANTILES + 1)))
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    names = [f"{low:.3g} to {high:.3g}" for low, high in itertools.pairwise(edges)]
    return names, np.where(there, places, -1)


def audit(
    columns: Mapping[str, np.ndarray],
    model: Mapping[str, torch.Tensor],
    floor: Mapping[str, torch.Tensor],
    ceiling: Mapping[str, torch.Tensor],
) -> dict[str, Any]:
    """Every measure by slice of every column.

    Args:
        columns: What to slice by, (N,) each.
        model: Measures of the completions, (N,) each.
        floor: The same of exact samples, or of the truth.
        ceiling: The same of another face's half.

    Returns:
        By column: `slices` (name, number of faces, estimates of every measure, means of its floor and ceiling) and
        `gaps` (measures that should be low: worst and best slice, their ratio with its interval, how often slices
        drawn at random differ as much, and the same corrected for the number of gaps of all columns).
    """
    found = {name: _column(values, model, floor, ceiling) for name, values in columns.items()}
    gaps = [gap for part in found.values() for gap in part["gaps"].values()]
    compared = [gap for gap in gaps if math.isfinite(gap["ratio"])]  # over a slice without fault there is no ratio
    for gap, rate in zip(compared, false_discovery_rates([gap["p_value"] for gap in compared]), strict=True):
        gap["q_value"] = rate
    return found


def _column(
    values: np.ndarray,
    model: Mapping[str, torch.Tensor],
    floor: Mapping[str, torch.Tensor],
    ceiling: Mapping[str, torch.Tensor],
) -> dict[str, Any]:
    names, places = slices_of(values)
    together = torch.stack(list(model.values()), dim=1)
    slices, compared, draws = [], {}, []
    for number, name in enumerate(names):
        rows = torch.from_numpy(places == number)
        if not bool(rows.any()):
            continue
        means = resampled_means(together[rows], seed=number)
        estimates = estimates_of(together[rows], means)
        measures = {
            measure: asdict(estimate)
            | {"floor": _mean(floor, measure, rows), "ceiling": _mean(ceiling, measure, rows)}
            for measure, estimate in zip(model, estimates, strict=True)
        }
        slices.append({"name": name, "num_faces": int(rows.sum()), "measures": measures})
        if int(rows.sum()) >= LEAST_FACES:
            compared[number] = name
            draws.append(means)
    if len(compared) < 2:
        return {"slices": slices, "gaps": {}}
    taking_part = torch.from_numpy(np.where(np.isin(places, list(compared)), places, -1))
    return {"slices": slices, "gaps": _gaps(model, taking_part, compared, torch.stack(draws))}


def _mean(row: Mapping[str, torch.Tensor], measure: str, rows: torch.Tensor) -> float | None:
    return float(row[measure][rows].nanmean()) if measure in row else None


def _gaps(
    model: Mapping[str, torch.Tensor], places: torch.Tensor, compared: Mapping[int, str], draws: torch.Tensor
) -> dict[str, Any]:
    """The worst slice against the best, by every measure that should be low.

    Args:
        model: Measures, (N,) each.
        places: The slice of each face, (N,); -1 for none.
        compared: Names of the S slices that take part, by number.
        draws: Resampled means, (S, B, measures).

    Returns:
        By measure.
    """
    low = [name for name in model if describe(name).better == "lower" and not bool(model[name].isnan().any())]
    if not low:
        return {}
    tests = slice_gap_tests(torch.stack([model[name] for name in low], dim=1), places)
    found, names, order = {}, list(compared.values()), list(model)
    for measure, test in zip(low, tests, strict=True):
        means = [float(model[measure][places == number].double().mean()) for number in compared]
        worst, best = int(np.argmax(means)), int(np.argmin(means))
        column = draws[:, :, order.index(measure)]
        ((at_least, at_most),) = interval((column[worst] / column[best])[:, None])
        found[measure] = {
            "worst": names[worst],
            "best": names[best],
            "ratio": test.statistic,
            "low": at_least,
            "high": at_most,
            "p_value": test.p_value,
            "q_value": None,
        }
    return found


def dark_hair_measure(names: Sequence[str]) -> str | None:
    """The measure that says whether dark hair is continued lighter, if it is among these."""
    return next((name for name in (f"lightness_shift_{region}" for region in DARK_HAIR) if name in names), None)
