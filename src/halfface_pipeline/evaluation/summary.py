"""The sections of metrics.json that say what was evaluated, and sum up what was measured."""

import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..config.schema import DataConfig
from .cache import Completions
from .config import EvaluationConfig
from .factors import CLASSES
from .features import FeatureNetwork
from .measure import Measurements
from .metrics.registry import RANKED, find_metric, hair_metric
from .statistics import (
    LEVEL,
    RESAMPLES,
    exchange_test,
    mean_estimate,
    mean_estimates,
    ratio_estimate,
    uniform_ranks_test,
)

SCHEMA_VERSION = 1
RESIZE = "EXIF orientation, centre cut to the aspect, PIL Lanczos with antialiasing from uint8 (image_io.resize_to)"
FEATURE_RESIZE = "PIL bicubic with antialiasing, from uint8 to floats (features.resized)"
DIGITS = 6
PACKAGES = ("torch", "diffusers", "numpy", "scipy", "pillow")
TO_OTHER_FACE = ("energy_score", "distance_to_truth")
TO_FLOOR = ("energy_score", "spread", "pairwise_distance", "residual_noise", "sharpness", "seam_gradient")
"""Metrics whose ratio to a baseline is reported."""
Section = dict[str, Any]


def settings(
    data: DataConfig,
    config: EvaluationConfig,
    completions: Completions,
    network: FeatureNetwork,
    command: Sequence[str],
) -> Section:
    """The sections that say what was evaluated, and how."""
    size = {"height": data.height, "width": data.width}
    return {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "versions": versions(),
        "model": {
            "weights_sha256": completions.weights,
            "hidden_half": completions.pipe.config.hidden_half,
            **size,
        },
        "data": {
            "source": data.source,
            "name": None if data.path is None else Path(data.path).name,
            **size,
            "images_sha256": completions.images_sha256,
            "resize": "drawn at this size" if data.source == "procedural" else RESIZE,
        },
        "num_faces": config.sampling.num_faces,
        "num_completions": config.sampling.num_completions,
        "scheduler": type(completions.pipe.scheduler).__name__,
        "num_inference_steps": config.sampling.num_inference_steps,
        "seeds": list(config.seeds),
        "features": {
            "name": network.name,
            "size": network.size,
            "dim": network.dim,
            "weights_sha256": network.weights_sha256,
            "resize": None if network.size is None else FEATURE_RESIZE,
        },
        "intervals": {"level": LEVEL, "method": "percentile bootstrap over faces", "resamples": RESAMPLES},
    }


def versions() -> dict[str, str | None]:
    """Versions of packages, and the commit if the package is in its repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", Path(__file__).name], capture_output=True, check=True)
        commit = subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    packages = {package: version(package) for package in PACKAGES}
    return {"halfface_pipeline": __version__, "commit": commit, "python": platform.python_version(), **packages}


def summarise(found: Measurements) -> Section:
    """The sections `measures`, `ratios`, `tests`, `visible_pixels`, `rank_histograms`, `free_factors`, `dark_hair`."""
    estimates = {row: mean_estimates(values) for row, values in found.rows.items()}
    measures = {}
    for name in found.rows["model"]:
        metric = find_metric(name)
        measures[name] = {
            "group": metric.group,
            "meaning": metric.description,
            "unit": metric.unit,
            "better": metric.better,
            "rows": {row: asdict(each[name]) if name in each else None for row, each in estimates.items()},
            "by_seed": [float(values[name].nanmean()) for values in found.by_seed],
        }
    dark = hair_metric(measures, "lightness_shift_dark")
    gradients = found.seam_gradients
    return {
        "measures": measures,
        "ratios": _ratios(found),
        "tests": {"seam_gradient": asdict(exchange_test(gradients[:, 0], gradients[:, 1:]))},
        "visible_pixels": {"faces_kept": int(found.visible_kept.sum()), "num_faces": len(found.visible_kept)},
        "rank_histograms": {
            name: {
                "meaning": RANKED[name],
                "counts": torch.bincount(ranks, minlength=gradients.shape[1]).tolist(),
                **asdict(uniform_ranks_test(ranks, gradients.shape[1])),
            }
            for name, ranks in found.ranks.items()
        },
        "free_factors": _free_factors(found),
        "dark_hair": None if dark is None else {"measure": dark, **asdict(estimates["model"][dark])},
    }


def _ratios(found: Measurements) -> Section:
    """The model's mean over that of the floor or of another face."""
    floor = "exact" if "exact" in found.rows else "truth"
    pairs = [(name, "other_face") for name in TO_OTHER_FACE]
    pairs += [(name, floor) for name in TO_FLOOR if floor == "exact" or name != "energy_score"]
    section = {}
    for name, row in pairs:
        if name in found.rows[row]:
            ratio = ratio_estimate(found.rows["model"][name], found.rows[row][name])
            section[f"{name}_to_{row}"] = {"measure": name, "against": row, **asdict(ratio)}
    return section


def _free_factors(found: Measurements) -> Section:
    """The frequency of each class of each free factor, over the faces to which the factor applies."""
    section: Section = {}
    for name, probabilities in CLASSES.items() if found.factors else ():
        applies = found.factors["truth"][name][:, 0] >= 0
        if not bool(applies.any()):
            continue
        labels = {row: each[name][applies] for row, each in found.factors.items()}
        classes = {
            label: _frequency({row: labels[row] == index for row in ("exact", "model")}, probability)
            for index, (label, probability) in enumerate(probabilities.items())
        }
        variation = {
            row: sum(abs(each[row]["value"] - each["probability"]) for each in classes.values()) / 2
            for row in ("exact", "model")
        }
        section[name] = {
            "num_faces": int(applies.sum()),
            "reading_accuracy": float((labels["truth"] == labels["truth_predicted"]).double().mean()),
            "total_variation": variation["model"],
            "total_variation_exact": variation["exact"],
            "classes": classes,
        }
    return section


def _frequency(chosen: Mapping[str, torch.Tensor], probability: float) -> Section:
    """How often completions (N, K) have a class, and its probability with the error of as many independent samples."""
    estimates = {row: asdict(mean_estimate(each.double().mean(dim=1))) for row, each in chosen.items()}
    error = math.sqrt(probability * (1 - probability) / chosen["model"].numel())
    return {"probability": probability, "sampling_error": error, **estimates}


def to_json(value: Any) -> Any:
    """Rounds floats to `DIGITS` significant digits; NaN and infinity become null."""
    if isinstance(value, dict):
        return {key: to_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
