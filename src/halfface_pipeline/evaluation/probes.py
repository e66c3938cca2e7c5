"""Linear probes of age, expression and other columns, and how far completions shift what they predict.

A probe is a ridge regression from the features of whole faces to a column of the training faces. Completions of a
calibrated sampler give the same mean prediction as the truth, whatever the probe predicts; whether it predicts its
column is measured on true held-out faces.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from .metrics.registry import PROBE_SHIFT
from .statistics import agreement_estimates

MIN_TRAINING, MIN_HELD_OUT = 50, 20
"""Faces with a value that a probe is fitted to and tested on, at least."""
MIN_CORRELATION = 0.4
"""A probe is valid if the interval of its correlation with held-out values is above this."""
PENALTIES = tuple(10.0 ** (quarter / 4) for quarter in range(-16, 17))
"""Tried; in units of the mean eigenvalue of the standardized features' Gram matrix."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear predictor.

    Args:
        weights: Of the features, (D,) float64.
        offset: Added to the product.
        penalty: The one of `PENALTIES` with the lowest leave-one-out error.
        left_out_r2: Variance explained of training faces that are left out.
        num_training: Faces it is fitted to.
    """

    weights: torch.Tensor
    offset: float
    penalty: float
    left_out_r2: float
    num_training: int

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Predictions (...) float32 of features (..., D)."""
        return (features.double() @ self.weights + self.offset).float()


def fit_probes(features: torch.Tensor, columns: Mapping[str, np.ndarray]) -> dict[str, Probe]:
    """Ridge regressions of columns (T,) on standardized features (T, D), the penalty chosen by leave-one-out error.

    NaN means that a face has no value; ValueError if scikit-learn is not installed.
    """
    found: dict[str, Probe] = {}
    for name, column in columns.items():
        if name in found:
            continue
        rows = ~np.isnan(np.asarray(column, np.float64))
        # Columns that the same faces have share one decomposition.
        together = [other for other, values in columns.items() if np.array_equal(~np.isnan(values), rows)]
        targets = np.stack([np.asarray(columns[other], np.float64)[rows] for other in together], axis=1)
        found |= dict(zip(together, _fit(features[torch.from_numpy(rows)].double().numpy(), targets), strict=True))
    return {name: found[name] for name in columns}


def _fit(features: np.ndarray, targets: np.ndarray) -> list[Probe]:
    try:
        from sklearn.linear_model import RidgeCV
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ValueError("--read needs scikit-learn: pip install 'halfface-pipeline[eval]'") from error
    scaler = StandardScaler().fit(features)
    scaled = scaler.transform(features)
    unit = float(np.square(scaled).sum()) / len(scaled)
    ridge = RidgeCV(np.multiply(PENALTIES, unit), alpha_per_target=True).fit(scaled, targets)
    weights = np.atleast_2d(ridge.coef_ / scaler.scale_)
    offsets = ridge.intercept_ - weights @ scaler.mean_
    penalties = np.atleast_1d(ridge.alpha_ / unit)  # scikit-learn gives one target a plain number
    left_out_r2 = 1 + ridge.best_score_ / targets.var(axis=0)
    numbers = zip(offsets.tolist(), penalties.tolist(), left_out_r2.tolist(), strict=True)
    return [Probe(torch.from_numpy(row), *each, len(features)) for row, each in zip(weights, numbers, strict=True)]


def probe_faults(training: Mapping[str, np.ndarray], held_out: Mapping[str, np.ndarray]) -> dict[str, str | None]:
    """Why a column that training and held-out faces have cannot be predicted, by name; None where it can."""
    return {name: _fault(training[name], held_out[name]) for name in held_out if name in training}


def _fault(training: np.ndarray, held_out: np.ndarray) -> str | None:
    if "U" in (training.dtype.kind, held_out.dtype.kind):
        return "which holds words; probes need numbers"
    for part, values, least in (("training", training, MIN_TRAINING), ("held-out", held_out, MIN_HELD_OUT)):
        known = values[~np.isnan(values.astype(np.float64))]
        if len(known) < least:
            return f"which {len(known)} {part} faces have; a probe needs at least {least}"
        if known.min() == known.max():
            return f"which is {known.min():g} in all {part} faces"
    return None


def shifts(probes: Mapping[str, Probe], features: torch.Tensor, truth: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mean predictions for completed faces (n, K, D) minus those for the true ones (n, D), (n,) by metric."""
    return {f"{PROBE_SHIFT}{name}": probe(features).mean(dim=1) - probe(truth) for name, probe in probes.items()}


def evaluate_probes(
    probes: Mapping[str, Probe],
    known_probes: Mapping[str, Probe],
    ratings: Mapping[str, np.ndarray],
    whole: torch.Tensor,
    known: torch.Tensor,
    other_face: Mapping[str, torch.Tensor],
) -> dict[str, Any]:
    """The section `readings` of metrics.json: how well each probe predicts its column on N true held-out faces.

    Ratings and `other_face`, the metrics of faces with another face's half, are (N,) each; features are (N, D), those
    of `known` of the known halves completed by their mirror image, from which `known_probes` predict the columns.
    """
    section = {}
    for name, probe in probes.items():
        rated = torch.from_numpy(np.asarray(ratings[name], np.float64))
        agreement = agreement_estimates(probe(whole).double(), rated)
        from_known = agreement_estimates(known_probes[name](known).double(), rated)
        metric = f"{PROBE_SHIFT}{name}"
        moved = other_face[metric].double().square().mean() / (2 * probe(whole).double().var())
        section[name] = {
            "measure": metric if agreement["correlation"].low >= MIN_CORRELATION else None,
            "num_training": probe.num_training,
            "penalty": probe.penalty,
            "left_out_r2": probe.left_out_r2,
            "deviation": float(rated[~rated.isnan()].std()),
            **{figure: asdict(estimate) for figure, estimate in agreement.items()},
            "known_correlation": asdict(from_known["correlation"]),
            "hidden_share": float(moved),
        }
    return section
