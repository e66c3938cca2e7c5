"""Completes held-out halves, measures the result beside its floor and ceiling, and writes it down."""

import math
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..config.schema import DataConfig
from ..data.images import ImageSet, load_categories, load_images
from ..inference.speed import keep_freed_memory
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from .baselines import NearestTraining
from .cache import FOLDER, Completions
from .catalogue import READING_SHIFT
from .collect import Collected, collect
from .features import load_features
from .figures import draw_pictures
from .metrics import realism as sets
from .probes import LEAST_CORRELATION, Readers, choose_readings, summarise_readings
from .report import write_report
from .slices import LEAST_FACES, MOST_VALUES, audit, choose, columns_of
from .statistics import LEVEL, RESAMPLES
from .summary import floor, summarise
from .trials import held_factors, load_faces

SCHEMA_VERSION = 1
NUM_TRAINING = 2000
RESIZE = "EXIF orientation, centre cut to the aspect, PIL Lanczos with antialiasing from uint8 (pictures.resize_to)"
FEATURE_RESIZE = "PIL bicubic with antialiasing, from uint8 to floats (features.resized)"
DIGITS = 6
PACKAGES = ("torch", "diffusers", "numpy", "pillow")


def evaluate(
    pipe: HalfFaceInpaintPipeline,
    data: DataConfig,
    out: Path,
    num_faces: int = 64,
    num_completions: int = 4,
    num_inference_steps: int = 20,
    seed: int = 0,
    batch_size: int = 32,
    num_seeds: int = 1,
    features: str = "pixels",
    features_path: str | None = None,
    slices: Sequence[str] = (),
    read: Sequence[str] = (),
    training: DataConfig | None = None,
    num_training: int = NUM_TRAINING,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Completes held-out faces and writes metrics.json, metrics.md and pictures.

    The floor is what the truth itself scores: the real halves, and for procedural faces exact redraws of them. The
    ceiling is another face's half, put where it does not belong. Completions are kept under OUT as they are drawn, so
    that the same evaluation goes on where it was cut short.

    Args:
        pipe: The model, with the sampler to use.
        data: Where the held-out faces come from; its size must be the model's.
        out: Folder to write to.
        num_faces: Held-out faces.
        num_completions: Completions of each, at least 2.
        num_inference_steps: Denoising steps.
        seed: Of the completions' noise.
        batch_size: Completions computed at once.
        num_seeds: How often everything is completed anew, with the seeds that follow.
        features: Name of the feature network that distances are taken in.
        features_path: Where its weights lie, for networks that are not found by name.
        slices: Columns to compare faces by, or `all`.
        read: Columns of numbers that readers, fitted to the training faces, read off completions; or `all`.
        training: What the model was trained on, to hold its completions against the nearest training face; none
            leaves that row out.
        num_training: Training faces to search.
        command: What was typed, for the record.

    Returns:
        What metrics.json holds (docs/evaluation.md).

    Raises:
        ValueError: If there are too few faces, completions or seeds, the sizes differ, or a column is missing or
            cannot be read.
    """
    _check(pipe, data, num_completions, num_seeds, num_training)
    keep_freed_memory()
    network = load_features(features, features_path, str(pipe.device))
    faces = load_faces(data, num_faces, num_completions)
    hidden_half = pipe.config.hidden_half
    factors = held_factors(data, num_faces) if data.source == "procedural" else None
    there = columns_of(_columns(data, faces, num_faces), factors)
    columns = choose(there, slices, num_faces)
    nearest = _nearest(training, data, hidden_half, num_training)
    rated = None if nearest is None or training is None else _training_columns(nearest, training)
    to_read = choose_readings(read, rated, there, num_faces)
    held_out = faces.images_sha256()
    completions = Completions(pipe, out / FOLDER, held_out, num_completions, num_inference_steps, batch_size)
    seeds = range(seed, seed + num_seeds)
    training_features, readers = None, None
    if nearest is not None:
        training_features = nearest.features(network)
        if to_read and rated is not None:
            known = nearest.features(network, known_alone=True)
            readers = Readers.fit(training_features, known, {name: rated[name] for name in to_read})
    found = collect(
        faces,
        data,
        hidden_half,
        num_faces,
        num_completions,
        completions.draw,
        network,
        seeds,
        nearest,
        completions.faces_at_once,
        readers=readers,
    )
    readings = {} if readers is None else _read(found, readers, there)
    if int((~found.hair_lightness.isnan()).sum()) >= 2 * LEAST_FACES:
        columns = {"known_hair_lightness": found.hair_lightness.numpy()} | columns
    for name, reading in readings.items():
        if readers is not None and reading["measure"] and reading["known_correlation"]["low"] >= LEAST_CORRELATION:
            columns = {f"known_{name}": readers.known[name](found.known_features).numpy()} | columns
    metrics = {
        "schema_version": SCHEMA_VERSION,
        "command": list(command),
        "versions": _versions(),
        "model": {
            "weights_sha256": completions.weights,
            "hidden_half": hidden_half,
            "height": data.height,
            "width": data.width,
        },
        "data": {
            "source": data.source,
            "name": None if data.path is None else Path(data.path).name,
            "height": data.height,
            "width": data.width,
            "images_sha256": held_out,
            "resize": "drawn at this size" if data.source == "procedural" else RESIZE,
            "num_training_searched": 0 if nearest is None else nearest.num_training,
        },
        "num_faces": num_faces,
        "num_completions": num_completions,
        "scheduler": type(pipe.scheduler).__name__,
        "num_inference_steps": num_inference_steps,
        "seeds": list(seeds),
        "features": {
            "name": network.name,
            "size": network.size,
            "dim": network.dim,
            "weights_sha256": network.weights_sha256,
            "resize": None if network.size is None else FEATURE_RESIZE,
        },
        "intervals": {"level": LEVEL, "method": "percentile bootstrap over faces", "resamples": RESAMPLES},
        **summarise(found),
        "real": _realism(found, training_features),
        "readings": readings,
        "audit": audit(columns, found.rows["model"], floor(found), found.rows["other_face"]),
    }
    metrics = _plain(metrics)
    out.mkdir(parents=True, exist_ok=True)
    write_report(out, metrics)
    draw_pictures(out, metrics, found, faces, completions, seed)
    return metrics


def _check(
    pipe: HalfFaceInpaintPipeline, data: DataConfig, num_completions: int, num_seeds: int, num_training: int
) -> None:
    if num_completions < 2:
        raise ValueError(f"num_completions is {num_completions}; the spread needs at least 2")
    for name, value in {"num_seeds": num_seeds, "num_training": num_training}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    size = pipe.config.height, pipe.config.width
    if (data.height, data.width) != size or data.channels != 3:
        raise ValueError(
            f"data are {data.height}x{data.width} with {data.channels} channels; the model draws {size[0]}x{size[1]} "
            "with 3"
        )


def _realism(found: Collected, training: torch.Tensor | None) -> dict[str, Any]:
    """Distances between sets of images; where there are too few, how many they need."""
    try:
        # Another face's half is that of the face before, which is in the set that it would be compared with.
        rows = {name: features for name, features in found.features.items() if name != "other_face"}
        return sets.realism(rows["truth"], found.seed_features, rows, training)
    except ValueError as error:
        if len(found.features["truth"]) >= sets.LEAST_FACES:
            raise
        return {"left_out": str(error)}


def _columns(data: DataConfig, faces: ImageSet, num_faces: int) -> dict[str, np.ndarray]:
    """Numbers and words of metadata.csv, of the faces evaluated."""
    columns = {**faces.attributes, **load_categories(data, "eval", faces.names, MOST_VALUES)}
    return {name: values[:num_faces] for name, values in columns.items()}


def _nearest(
    training: DataConfig | None, data: DataConfig, hidden_half: str, num_training: int
) -> NearestTraining | None:
    if training is None:
        return None
    training = replace(training, height=data.height, width=data.width)
    if training.source == "procedural":
        # Drawn when they are needed, so no more than are searched.
        training = replace(training, num_images=min(num_training, training.num_images or num_training))
    return NearestTraining(load_images(training, "train"), hidden_half, num_training)


def _training_columns(nearest: NearestTraining, training: DataConfig) -> dict[str, np.ndarray]:
    """Numbers of the training faces that are searched."""
    num = nearest.num_training
    factors = held_factors(training, num, "train") if training.source == "procedural" else None
    return columns_of({name: values[:num] for name, values in nearest.faces.attributes.items()}, factors)


def _read(found: Collected, readers: Readers, ratings: dict[str, np.ndarray]) -> dict[str, Any]:
    """How well each reader reads; the shifts of one that does not are taken out of what was found."""
    truth, other_face = found.features["truth"], found.rows["other_face"]
    ratings = {name: ratings[name][: len(truth)] for name in readers.whole}
    readings = summarise_readings(readers, ratings, truth, found.known_features, other_face)
    for name, reading in readings.items():
        if reading["measure"] is None:
            for table in [*found.rows.values(), *found.by_seed]:
                table.pop(f"{READING_SHIFT}{name}", None)
    return readings


def _versions() -> dict[str, str | None]:
    """Of everything that may change a number; the commit where the package lies in its repository."""
    here = Path(__file__).parent
    commit = None
    try:
        words = ["git", "-C", str(here), "ls-files", "--error-unmatch", Path(__file__).name]
        if subprocess.run(words, capture_output=True).returncode == 0:
            words = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
            commit = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    packages = {package: version(package) for package in PACKAGES}
    return {"halfface_pipeline": __version__, "commit": commit, "python": platform.python_version(), **packages}


def _plain(value: Any) -> Any:
    """Numbers with as many digits as tell; JSON has no NaN: what is not a number becomes null."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
