"""Readers of age, expression and other ratings, and how far completions shift what they read.

A reader is a ridge regression from the features of whole faces onto a column of the training faces. Whatever it reads,
completions of a calibrated sampler give the same on average as the truth; whether it reads what the column says is
measured on the true held-out faces.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from .catalogue import READING_SHIFT
from .slices import LEAST_FACES
from .statistics import agreement_estimates

LEAST_TRAINING = 50
"""Training faces with a value that a reader is fitted to, at least."""
LEAST_CORRELATION = 0.4
"""A reader reads if its correlation with held-out faces' values has an interval whose lower end is at least this."""
READ_ROWS = {
    "model": "model",
    "exact": "exact samples",
    "matched_truth": "matched truth",
    "mean_completion": "mean completion",
    "nearest_training_face": "nearest training face",
    "other_face": "another face",
}
"""What a reading is shown for."""
PENALTIES = tuple(10.0 ** (quarter / 4) for quarter in range(-16, 17))
"""Tried; in units of the mean eigenvalue of the standardized features' Gram matrix."""


@dataclass(frozen=True, eq=False)
class Ridge:
    """A linear reader.

    Attributes:
        weights: Of the features, (D,) float64.
        offset: Added.
        penalty: The one of `PENALTIES` that predicts training faces best that are left out.
        left_out_r2: Variance of their values that it then explains.
        num_training: Faces fitted to.
    """

    weights: torch.Tensor
    offset: float
    penalty: float
    left_out_r2: float
    num_training: int

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """What it reads, (...) float32 of features (..., D)."""
        return (features.double() @ self.weights + self.offset).float()


@dataclass(frozen=True, eq=False)
class Readers:
    """Readers of the same columns.

    Attributes:
        whole: Of whole faces, by column.
        known: Of known halves beside their own mirror image, by column: what the half that is seen says already.
    """

    whole: dict[str, Ridge]
    known: dict[str, Ridge]

    @classmethod
    def fit(cls, whole: torch.Tensor, known: torch.Tensor, columns: Mapping[str, np.ndarray]) -> "Readers":
        """Fits both kinds.

        Args:
            whole: Features of T whole training faces, (T, D).
            known: Features of their known halves beside the mirror image, (T, D).
            columns: What to read, (T,) numbers each, NaN where missing.

        Returns:
            The readers.
        """
        return cls(fit_ridges(whole, columns), fit_ridges(known, columns))

    def shifts(self, features: torch.Tensor, truth: torch.Tensor) -> dict[str, torch.Tensor]:
        """What is read off completed faces less what is read off the true ones.

        Args:
            features: Of whole completed faces, (n, K, D).
            truth: Of the true faces, (n, D).

        Returns:
            (n,) for each measure, means over the K.
        """
        return {
            f"{READING_SHIFT}{name}": reader(features).mean(dim=1) - reader(truth)
            for name, reader in self.whole.items()
        }


def fit_ridges(features: torch.Tensor, columns: Mapping[str, np.ndarray]) -> dict[str, Ridge]:
    """Ridge regressions of columns on standardized features, the penalty chosen by leaving each face out.

    With Z = U S V' the standardized features and w = s^2 / (s^2 + penalty), the fit is mean(y) + U w U'(y - mean(y)).
    A face that is left out is missed by its residual over 1 - h, h = 1/T + sum_j U_j^2 w_j (Allen 1974; Golub, Heath
    and Wahba 1979), so that all penalties cost one decomposition.

    Args:
        features: Of T training faces, (T, D).
        columns: What to read, (T,) numbers each, NaN where missing.

    Returns:
        A reader for each column.
    """
    found: dict[str, Ridge] = {}
    rows_before, parts = None, None
    for name, column in columns.items():
        values = torch.from_numpy(np.asarray(column, np.float64))
        rows = ~values.isnan()
        if parts is None or rows_before is None or not torch.equal(rows, rows_before):
            rows_before, parts = rows, _Parts.of(features[rows])
        found[name] = parts.fit(values[rows])
    return found


@dataclass(frozen=True, eq=False)
class _Parts:
    """Standardized features, decomposed once for all columns."""

    mean: torch.Tensor
    scale: torch.Tensor
    left: torch.Tensor
    singular: torch.Tensor
    right: torch.Tensor

    @classmethod
    def of(cls, features: torch.Tensor) -> "_Parts":
        features = features.double()
        mean, scale = features.mean(dim=0), features.std(dim=0)
        scale = torch.where(scale > 0, scale, 1.0)
        return cls(mean, scale, *torch.linalg.svd((features - mean) / scale, full_matrices=False))

    def fit(self, values: torch.Tensor) -> Ridge:
        middle, num = values.mean(), len(values)
        centred, squares = values - middle, self.singular.square()
        along = self.left.T @ centred
        best: tuple[float, float] | None = None
        for penalty in PENALTIES:
            weights = squares / (squares + penalty * squares.sum() / num)
            leverage = 1 / num + self.left.square() @ weights
            missed = (centred - self.left @ (weights * along)) / (1 - leverage)
            error = float(missed.square().mean())
            if best is None or error < best[0]:
                best = error, penalty
        assert best is not None
        shrunk = along * self.singular / (squares + best[1] * squares.sum() / num)
        weights = (self.right.T @ shrunk) / self.scale
        r2 = 1 - best[0] / float(centred.square().mean())
        return Ridge(weights, float(middle - self.mean @ weights), best[1], r2, num)


def choose_readings(
    names: Sequence[str], training: Mapping[str, np.ndarray] | None, held_out: Mapping[str, np.ndarray], num_faces: int
) -> list[str]:
    """The columns to read; `all` takes every one that can be.

    Args:
        names: What is asked for.
        training: Columns of the training faces, (T,) each; none without a training set.
        held_out: Columns of the held-out faces.
        num_faces: Faces evaluated.

    Returns:
        Names of columns.

    Raises:
        ValueError: If there is no training set, a column is missing, holds no numbers or the same one everywhere, or
            too few faces have it.
    """
    if not names:
        return []
    asked = ", ".join(names)
    if training is None:
        raise ValueError(f"read is {asked}; a reader needs training faces, and the model does not say what it saw")
    if num_faces < 2 * LEAST_FACES:
        raise ValueError(f"num_faces is {num_faces}; a reader is checked on at least {2 * LEAST_FACES}")
    shared = [name for name in held_out if name in training]
    faults = {name: _fault(training[name], held_out[name][:num_faces]) for name in shared}
    able = [name for name, fault in faults.items() if fault is None]
    if list(names) == ["all"] and able:
        return able
    there = ", ".join(able) or "none"
    for name in names:
        fault = faults.get(name, "which training and held-out faces do not both have")
        if fault is not None:
            raise ValueError(f"read has {name}, {fault}; columns that can be read: {there}")
    return list(dict.fromkeys(names))


def _fault(training: np.ndarray, held_out: np.ndarray) -> str | None:
    """Why a column cannot be read; none if it can."""
    if training.dtype.kind in "US" or held_out.dtype.kind in "US":
        return "which holds words; a reader reads numbers"
    for part, values, least in (("training", training, LEAST_TRAINING), ("held-out", held_out, 2 * LEAST_FACES)):
        there = values[~np.isnan(values.astype(np.float64))]
        if len(there) < least:
            return f"which {len(there)} {part} faces have; a reader needs at least {least}"
        if there.min() == there.max():
            return f"which is {there.min():g} in all {part} faces"
    return None


def summarise_readings(
    readers: Readers,
    ratings: Mapping[str, np.ndarray],
    whole: torch.Tensor,
    known: torch.Tensor,
    other_face: Mapping[str, torch.Tensor],
) -> dict[str, Any]:
    """Whether each reader reads the true held-out faces.

    Args:
        readers: The readers.
        ratings: The columns of the N held-out faces, (N,) each.
        whole: Features of the true faces, (N, D).
        known: Features of their known halves beside the mirror image, (N, D).
        other_face: Measures of faces with another face's half, (N,) each.

    Returns:
        The section `readings` of metrics.json.
    """
    found = {}
    for name, reader in readers.whole.items():
        rated = torch.from_numpy(np.asarray(ratings[name], np.float64))
        agreed = agreement_estimates(reader(whole).double(), rated)
        from_known = agreement_estimates(readers.known[name](known).double(), rated)
        measure = f"{READING_SHIFT}{name}"
        moved = other_face[measure].double().square().mean() / (2 * reader(whole).double().var())
        found[name] = {
            "measure": measure if agreed["correlation"].low >= LEAST_CORRELATION else None,
            "num_training": reader.num_training,
            "penalty": reader.penalty,
            "left_out_r2": reader.left_out_r2,
            "deviation": float(rated[~rated.isnan()].std()),
            **{figure: asdict(estimate) for figure, estimate in agreed.items()},
            "known_correlation": asdict(from_known["correlation"]),
            "hidden_share": float(moved),
        }
    return found
