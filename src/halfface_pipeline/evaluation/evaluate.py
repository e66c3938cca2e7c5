"""Evaluates a model on held-out halves, next to baselines, and writes the report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config.schema import DataConfig
from ..data.images import ImageSet
from ..inference.speed import keep_freed_memory
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from ..run_folder.files import atomic_write_text
from ..run_folder.lock import lock_folder
from .baselines import NearestTraining
from .cache import Completions
from .columns import choose_columns, load_columns
from .config import EvaluationConfig
from .dataset import find_trained_on, load_faces, load_training_faces
from .features import load_features
from .figures import PICTURES, draw_pictures
from .measure import Measurements, measure_faces
from .metrics.distribution import set_distances
from .metrics.registry import PROBE_SHIFT
from .probes import MIN_CORRELATION, MIN_HELD_OUT, Probe, evaluate_probes, fit_probes, probe_faults
from .report import as_markdown
from .slices import audit
from .summary import settings, summarise, to_json

METRICS, REPORT = "metrics.json", "metrics.md"
FILES = (*PICTURES, METRICS, REPORT)
"""What an evaluation writes, besides its cache."""
CACHE = "completions"


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
    columns = load_columns(data, faces, num_faces, "eval")
    sliced = {name: columns[name] for name in choose_columns("slices", config.slices, dict.fromkeys(columns))}
    nearest, rated, trained_on = None, dict[str, np.ndarray](), tuple[str, ...]()
    if training is not None:
        nearest, rated, trained_on = _training_part(training, data, faces, config, hidden_half)
    elif config.read:
        needs = "probes need training faces, and the model does not state its training data"
        raise ValueError(f"read is {', '.join(config.read)}; {needs}")
    predicted = {name: rated[name] for name in choose_columns("read", config.read, probe_faults(rated, columns))}

    with lock_folder(out, "--out", "evaluation"):
        completions = Completions(pipe, out / CACHE, faces.images_sha256(), config.sampling, config.batch_size)
        training_features, probes, known_probes = None, dict[str, Probe](), dict[str, Probe]()
        if nearest is not None:
            training_features = nearest.features(network)
            if predicted:
                probes = fit_probes(training_features, predicted)
                known_probes = fit_probes(nearest.features(network, known_alone=True), predicted)
        found = measure_faces(faces, data, hidden_half, config, completions.complete, network, nearest, probes)
        readings, by_known_half = _readings(found, probes, known_probes, columns)
        if int((~found.hair_lightness.isnan()).sum()) >= MIN_HELD_OUT:
            by_known_half["known_hair_lightness"] = found.hair_lightness.numpy()
        metrics = settings(data, config, completions, network, command)
        metrics["data"]["num_training_searched"] = 0 if nearest is None else nearest.num_training
        metrics["data"]["trained_on"] = trained_on
        metrics |= summarise(found)
        # Another face's half is that of the previous face, which is in the set that it would be compared with.
        rows = {name: features for name, features in found.features.items() if name != "other_face"}
        metrics["real"] = set_distances(rows, found.seed_features, training_features)
        metrics["readings"] = readings
        metrics["audit"] = audit(by_known_half | sliced, found.rows["model"], found.floor, found.rows["other_face"])
        metrics = to_json(metrics)
        # Pictures come first: they say who wrote them, which lets the same command replace what a killed one left.
        draw_pictures(out, metrics, found, faces, completions, config.faces_at_once)
        atomic_write_text(out / METRICS, json.dumps(metrics, indent=1, allow_nan=False) + "\n")
        atomic_write_text(out / REPORT, as_markdown(metrics))
    return metrics


def _training_part(
    training: DataConfig, data: DataConfig, faces: ImageSet, config: EvaluationConfig, hidden_half: str
) -> tuple[NearestTraining, dict[str, np.ndarray], tuple[str, ...]]:
    """The training faces to search, their columns, and the names of the evaluated faces that are among them."""
    train_faces = load_training_faces(training, data, config.num_training)
    trained_on = find_trained_on(faces, config.sampling.num_faces, data, train_faces, training)
    nearest = NearestTraining(train_faces, hidden_half, config.num_training)
    return nearest, load_columns(training, train_faces, nearest.num_training, "train"), trained_on


def _readings(
    found: Measurements, probes: dict[str, Probe], known_probes: dict[str, Probe], columns: dict[str, np.ndarray]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """How well each probe predicts, and what valid ones predict from known halves; removes shifts of the others."""
    truth, known, other_face = found.features["truth"], found.known_features, found.rows["other_face"]
    readings = evaluate_probes(probes, known_probes, columns, truth, known, other_face)
    predicted: dict[str, np.ndarray] = {}
    for name, reading in readings.items():
        if reading["measure"] is None:
            for table in [*found.rows.values(), *found.by_seed]:
                table.pop(f"{PROBE_SHIFT}{name}", None)
        elif reading["known_correlation"]["low"] >= MIN_CORRELATION:
            predicted = {f"known_{name}": known_probes[name](known).numpy()} | predicted
    return readings, predicted
