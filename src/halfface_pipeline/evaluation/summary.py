"""From numbers of every face to estimates, tests, rank histograms and frequencies."""

import math
from dataclasses import asdict
from typing import Any

import torch

from .catalogue import describe
from .collect import RANKED, Collected
from .factors import CLASSES, PROBABILITIES
from .significance import exchange_test, uniform_ranks_test
from .slices import dark_hair_measure
from .statistics import mean_estimate, mean_estimates, ratio_estimate


def summarise(found: Collected) -> dict[str, Any]:
    """Estimates, tests, rank histograms and frequencies from what was read off the faces.

    Args:
        found: The numbers of every face.

    Returns:
        The sections `measures`, `ratios`, `tests`, `visible_pixels`, `rank_histograms`, `free_factors` and `dark_hair`
        of metrics.json.
    """
    estimates = {row: mean_estimates(values) for row, values in found.rows.items()}
    model = found.rows["model"]
    per_seed = [{name: float(value.nanmean()) for name, value in values.items()} for values in found.by_seed]
    measures = {
        name: {
            **{key: value for key, value in asdict(describe(name)).items() if key != "shown"},
            "rows": {row: asdict(of[name]) if name in of else None for row, of in estimates.items()},
            "by_seed": [values[name] for values in per_seed],
        }
        for name in model
    }
    dark = dark_hair_measure(list(model))
    num_ranks = found.seam_gradients[1].shape[1] + 1
    return {
        "measures": measures,
        "ratios": _ratios(found),
        "tests": {"seam_gradient": asdict(exchange_test(*found.seam_gradients))},
        "visible_pixels": {"faces_kept": int(found.visible_kept.sum()), "num_faces": len(found.visible_kept)},
        "rank_histograms": {
            name: {
                "meaning": RANKED[name],
                "counts": torch.bincount(ranks, minlength=num_ranks).tolist(),
                **asdict(uniform_ranks_test(ranks, num_ranks)),
            }
            for name, ranks in found.ranks.items()
        },
        "free_factors": _free_factors(found),
        "dark_hair": None if dark is None else {"measure": dark, **asdict(estimates["model"][dark])},
    }


def floor(found: Collected) -> dict[str, torch.Tensor]:
    """What exact samples score where they are known, else what the truth does."""
    return found.rows.get("exact", found.rows["truth"])


def _ratios(found: Collected) -> dict[str, Any]:
    """The model's mean over that of the floor or of another face."""
    model, other = found.rows["model"], found.rows["other_face"]
    wanted = [("energy_score", "other_face", other), ("distance_to_truth", "other_face", other)]
    floor_name = "exact" if "exact" in found.rows else "truth"
    names = ("energy_score", "spread", "pairwise_distance", "residual_noise", "sharpness", "seam_gradient")
    wanted += [(name, floor_name, floor(found)) for name in names if floor_name == "exact" or name != "energy_score"]
    return {
        f"{name}_to_{row}": {"measure": name, "against": row, **asdict(ratio_estimate(model[name], values[name]))}
        for name, row, values in wanted
        if name in model and name in values
    }


def _free_factors(found: Collected) -> dict[str, Any]:
    """How often each class of each free factor comes up."""
    if not found.factors:
        return {}
    result = {}
    for name, classes in CLASSES.items():
        truth, read = found.factors["truth"][name], found.factors["truth_read"][name]
        applies = truth[:, 0] >= 0
        if not bool(applies.any()):
            continue
        rows = {row: found.factors[row][name][applies] for row in ("model", "exact")}
        shares = {
            row: [(values == place).double().mean(dim=1) for place in range(len(classes))]
            for row, values in rows.items()
        }
        draws = rows["model"].numel()
        result[name] = {
            "num_faces": int(applies.sum()),
            "reading_accuracy": float((truth == read)[applies].double().mean()),
            "total_variation": _total_variation([float(share.mean()) for share in shares["model"]], name),
            "total_variation_exact": _total_variation([float(share.mean()) for share in shares["exact"]], name),
            "classes": {
                label: {
                    "probability": probability,
                    "sampling_error": math.sqrt(probability * (1 - probability) / draws),
                    "exact": asdict(mean_estimate(shares["exact"][place])),
                    "model": asdict(mean_estimate(shares["model"][place])),
                }
                for place, (label, probability) in enumerate(zip(classes, PROBABILITIES[name], strict=True))
            },
        }
    return result


def _total_variation(shares: list[float], name: str) -> float:
    return sum(abs(share - wanted) for share, wanted in zip(shares, PROBABILITIES[name], strict=True)) / 2
