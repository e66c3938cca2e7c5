"""Evaluates a model on held-out halves, next to baselines, and writes the report."""

import json
import math
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..config.schema import DataConfig
from ..data.images import ImageSet, load_categories
from ..data.splits import Split
from ..inference.speed import keep_freed_memory
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from ..run_folder.files import atomic_write_text
from ..run_folder.lock import lock_folder
from .baselines import NearestTraining
from .cache import Completions
from .config import EvaluationConfig
from .dataset import factors_of, find_trained_on, load_faces, load_training_faces
from .features import FeatureNetwork, load_features
from .figures import PICTURES, draw_pictures
from .measure import Measurements, measure_faces
from .metrics.distribution import set_distances
from .metrics.registry import PROBE_SHIFT
from .probes import MIN_CORRELATION, MIN_HELD_OUT, Probes, choose_columns, evaluate_probes
from .report import as_markdown, summarise
from .slices import MAX_VALUES, audit, choose_slices, columns_of
from .statistics import LEVEL, RESAMPLES

SCHEMA_VERSION = 1
METRICS, REPORT = "metrics.json", "metrics.md"
FILES = (*PICTURES, METRICS, REPORT)
"""What an evaluation writes, besides its cache."""
CACHE = "completions"
RESIZE = "EXIF orientation, centre cut to the aspect, PIL Lanczos with antialiasing from uint8 (image_io.resize_to)"
FEATURE_RESIZE = "PIL bicubic with antialiasing, from uint8 to floats (features.resized)"
DIGITS = 6
PACKAGES = ("torch", "diffusers", "numpy", "scipy", "pillow")


def evaluate(
    pipe: HalfFaceInpaintPipeline,
    data: DataConfig,
    config: EvaluationConfig,
    out: Path,
    training: DataConfig | None = None,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Completes held-out faces and writes metrics.json, metrics.md and pictures.

    The floor of each metric is the truth, and for procedural faces exact samples of the hidden half; the ceiling is
    another face's half. Completions are cached in OUT/completions, so that an interrupted evaluation resumes.

    Args:
        pipe: The model, with the sampler to use.
        data: Where the held-out faces come from; its size must be the model's.
        config: The settings.
        out: Folder to write to.
        training: What the model was trained on; None leaves the nearest training face out.
        command: The command line, for the record.

    Returns:
        What metrics.json holds (docs/evaluation.md).

    Raises:
        ValueError: If sizes differ, there are too few faces, the model was trained on faces of other data, a column is
            missing or cannot be predicted, another evaluation is running in the folder, or completions are not
            finite.
    """
    size = pipe.config.height, pipe.config.width
    if (data.height, data.width, data.channels) != (*size, 3):
        raise ValueError(
            f"data are {data.height}x{data.width} with {data.channels} channels; the model generates "
            f"{size[0]}x{size[1]} with 3"
        )
    keep_freed_memory()
    num_faces, hidden_half = config.sampling.num_faces, pipe.config.hidden_half
    network = load_features(config.features, config.features_path, str(pipe.device))
    faces = load_faces(data, num_faces)
    columns = _columns(data, faces, num_faces, "eval")
    chosen = choose_slices(columns, config.slices)
    nearest, training_columns, trained_on = None, None, tuple[str, ...]()
    if training is not None:
        train_faces = load_training_faces(training, data, config.num_training)
        trained_on = find_trained_on(faces, num_faces, data, train_faces, training)
        nearest = NearestTraining(train_faces, hidden_half, config.num_training)
        training_columns = _columns(training, train_faces, nearest.num_training, "train")
    to_predict = choose_columns(config.read, training_columns, columns)

    with lock_folder(out, "--out", "evaluation"):
        completions = Completions(pipe, out / CACHE, faces.images_sha256(), config.sampling, config.batch_size)
        training_features, probes = None, None
        if nearest is not None and training_columns is not None:
            training_features = nearest.features(network)
            if to_predict:
                known = nearest.features(network, known_alone=True)
                probes = Probes.fit(training_features, known, {name: training_columns[name] for name in to_predict})
        found = measure_faces(faces, data, hidden_half, config, completions.complete, network, nearest, probes)
        readings = {} if probes is None else _evaluate_probes(found, probes, columns)
        columns = _own_columns(found, probes, readings) | chosen
        metrics = _settings(data, config, completions, network, command)
        metrics["data"]["num_training_searched"] = 0 if nearest is None else nearest.num_training
        metrics["data"]["trained_on"] = trained_on
        metrics |= summarise(found)
        # Another face's half is that of the previous face, which is in the set that it would be compared with.
        rows = {name: features for name, features in found.features.items() if name != "other_face"}
        metrics["real"] = set_distances(rows, found.seed_features, training_features)
        metrics["readings"] = readings
        metrics["audit"] = audit(columns, found.rows["model"], found.floor, found.rows["other_face"])
        metrics = _to_json(metrics)
        # Pictures come first: they say who wrote them, which lets the same command replace what a killed one left.
        draw_pictures(out, metrics, found, faces, completions, config.faces_at_once)
        atomic_write_text(out / METRICS, json.dumps(metrics, indent=1, allow_nan=False) + "\n")
        atomic_write_text(out / REPORT, as_markdown(metrics))
    return metrics


def _settings(
    data: DataConfig,
    config: EvaluationConfig,
    completions: Completions,
    network: FeatureNetwork,
    command: Sequence[str],
) -> dict[str, Any]:
    """The sections of metrics.json that say what was evaluated, and how."""
    size = {"height": data.height, "width": data.width}
    return {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "versions": _versions(),
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


def _columns(data: DataConfig, faces: ImageSet, num: int, split: Split) -> dict[str, np.ndarray]:
    """Columns of the first faces of a split: their metadata, and the factors of procedural faces."""
    words = load_categories(data, split, faces.names, MAX_VALUES) if split == "eval" else {}
    factors = factors_of(data, num, split) if data.source == "procedural" else None
    return columns_of({name: values[:num] for name, values in {**faces.attributes, **words}.items()}, factors)


def _evaluate_probes(found: Measurements, probes: Probes, columns: dict[str, np.ndarray]) -> dict[str, Any]:
    """How well each probe predicts; removes the shifts of invalid ones from the measurements."""
    truth, other_face = found.features["truth"], found.rows["other_face"]
    readings = evaluate_probes(probes, columns, truth, found.known_features, other_face)
    for name, reading in readings.items():
        if reading["measure"] is None:
            for table in [*found.rows.values(), *found.by_seed]:
                table.pop(f"{PROBE_SHIFT}{name}", None)
    return readings


def _own_columns(found: Measurements, probes: Probes | None, readings: dict[str, Any]) -> dict[str, np.ndarray]:
    """Columns from the known half alone: its hair lightness, and what valid probes predict from it."""
    columns: dict[str, np.ndarray] = {}
    for name, reading in readings.items():
        if probes is not None and reading["measure"] and reading["known_correlation"]["low"] >= MIN_CORRELATION:
            columns = {f"known_{name}": probes.known[name](found.known_features).numpy()} | columns
    if int((~found.hair_lightness.isnan()).sum()) >= MIN_HELD_OUT:
        columns["known_hair_lightness"] = found.hair_lightness.numpy()
    return columns


def _versions() -> dict[str, str | None]:
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


def _to_json(value: Any) -> Any:
    """Rounds floats to `DIGITS` significant digits; NaN and infinity become null."""
    if isinstance(value, dict):
        return {key: _to_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
