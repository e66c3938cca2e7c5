"""Conditional model or generative prior: completions of both beside exact samples of p(bottom | top)."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import torch

from ..config.schema import SamplingConfig
from ..diffusion.samplers import FEW_STEP_SAMPLER, FEW_STEPS, make_sampler
from ..evaluation.cache import complete
from ..evaluation.dataset import EvaluationBatch
from ..evaluation.measure import scores_per_face
from ..evaluation.metrics.scoring import distances
from ..evaluation.statistics import mean_estimate
from ..inference.sheets import comparison
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from ..remote_code.posterior import METHODS
from ..remote_code.prior_pipeline import FacePriorPipeline
from .gaussian_posterior import STEPS, gaussian_errors
from .results import Result, Row

SHOWN_FACES = 6
MEASURES = ("energy_score", "determined_pixel_error", "spread", "seam_gradient", "residual_noise")
COLUMNS = {
    "evaluations": "of the network per completion; with a gradient each costs about three",
    "cpu_seconds": "per completion, of all threads: other programs on the machine do not count",
    "energy_score": "of pixels in [0, 1] against the real half; smallest for exact samples",
    "determined_pixel_error": "over pixels that the top half determines; 0 for exact samples",
    "spread": "standard deviation of a pixel among the completions of a face",
    "seam_gradient": "mean difference of the two rows at the seam",
    "residual_noise": "standard deviation of white noise left",
    "effective_sample_size": "of the particles, the smallest over the steps, mean over completions",
}


def prior(
    prior_pipe: FacePriorPipeline,
    conditional: HalfFaceInpaintPipeline,
    batch: EvaluationBatch,
    sampling: SamplingConfig,
    methods: Mapping[str, Mapping[str, Any]],
    batch_size: int = 32,
    gaussian_steps: Sequence[int] = STEPS,
) -> Result:
    """Completes the same procedural faces by a model of the bottom half and by methods, with options, on a prior.

    The table has means over faces with 95 % intervals, `intervals` the same as numbers, `gaussian` errors on Gaussian
    images, whose posterior is a closed form. ValueError if the faces are not procedural, or for a single completion.
    """
    if batch.exact is None or batch.determined is None:
        raise ValueError(
            "the faces are photographs; exact samples are known for procedural faces with the bottom hidden"
        )
    if sampling.num_completions < 2:
        raise ValueError(f"n is {sampling.num_completions}; the energy score needs at least 2 completions")
    count, steps, seed = sampling.num_completions, sampling.num_inference_steps, sampling.seed
    rows: list[Row] = []
    intervals: list[Row] = []
    pictures = [_whole(batch, batch.exact)]
    known = {"sampler": "exact samples", "evaluations": None, "cpu_seconds": None, "effective_sample_size": None}
    _add(rows, intervals, known, batch, batch.exact)

    trained = conditional.scheduler
    for name, number in (("ddpm", steps), (FEW_STEP_SAMPLER, FEW_STEPS)):
        conditional.scheduler = make_sampler(name, trained)
        title, own = f"conditional {name} {number}", replace(sampling, num_inference_steps=number)
        start = time.process_time()
        images, hidden = complete(conditional, batch.images, own, batch_size, title)
        cost: Row = {"evaluations": number, "cpu_seconds": (time.process_time() - start) / len(images)}
        _add(rows, intervals, {"sampler": title, **cost, "effective_sample_size": None}, batch, hidden)
        if name == "ddpm":
            pictures.append(images)
    conditional.scheduler = trained

    for method, options in methods.items():
        generator, start = torch.Generator().manual_seed(seed), time.process_time()
        faces = list(batch.images)
        out = prior_pipe(faces, "bottom", method, count, steps, generator, batch_size=batch_size, **options)
        seconds = time.process_time() - start
        words = " ".join(f"{name}={value}" for name, value in options.items())
        sizes = out.effective_sample_size
        cost = {
            "evaluations": out.num_evaluations,
            "cpu_seconds": seconds / len(out.images),
            "effective_sample_size": None if sizes is None else float(sizes.mean()),
        }
        _add(rows, intervals, {"sampler": f"{method} {words}".strip(), **cost}, batch, _hidden(out.images, batch))
        pictures.append(out.images)
    columns = [images[::count] for images in pictures]
    picture = comparison(batch.originals[:SHOWN_FACES], columns, ("exact", "conditional", *methods))
    settings = {
        "num_inference_steps": steps,
        "num_faces": len(batch.images),
        "num_completions": count,
        "seed": seed,
        "methods": {name: dict(options) for name, options in methods.items()},
    }
    return Result(
        picture, rows, settings, COLUMNS, {"intervals": intervals, "gaussian": gaussian_errors(gaussian_steps)}
    )


def default_methods(num_steps: int) -> dict[str, dict[str, Any]]:
    """Options of every method for so many steps: RePaint jumps back a fifth of them."""
    options = {"repaint": {"jump_length": max(1, num_steps // 5), "resamplings": 5}, "tds": {"num_particles": 4}}
    return {name: dict(options.get(name, {})) for name in METHODS}


def energy_score(batch: EvaluationBatch, hidden: torch.Tensor) -> torch.Tensor:
    """Energy score of hidden halves (N, K, 3, h, w) uint8 against the real ones, (N,), pixels in [0, 1]."""
    return distances(batch.truth.flatten(1) / 255, hidden.flatten(2) / 255).energy_score


def _add(rows: list[Row], intervals: list[Row], known: Row, batch: EvaluationBatch, hidden: torch.Tensor) -> None:
    values = {"energy_score": energy_score(batch, hidden), **scores_per_face(batch, hidden)}
    row = {name: known[name] for name in ("sampler", "evaluations", "cpu_seconds")}
    for name in MEASURES:
        estimate = mean_estimate(values[name])
        row[name] = f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"
        ends = {"mean": estimate.value, "low": estimate.low, "high": estimate.high}
        intervals.append({"sampler": known["sampler"], "measure": name, **ends})
    rows.append({**row, "effective_sample_size": known["effective_sample_size"]})


def _hidden(images: Sequence[PIL.Image.Image], batch: EvaluationBatch) -> torch.Tensor:
    """Bottom halves (N, K, 3, h, w) uint8 of completions, those of one face together."""
    whole = torch.from_numpy(np.stack([np.array(image) for image in images])).permute(0, 3, 1, 2)
    return whole[:, :, whole.shape[2] // 2 :].unflatten(0, (len(batch.images), -1))


def _whole(batch: EvaluationBatch, hidden: torch.Tensor) -> list[PIL.Image.Image]:
    """Faces with bottom halves (N, K, 3, h, w) uint8 in place of their own."""
    known = batch.known[:, None].expand(-1, hidden.shape[1], -1, -1, -1)
    images = torch.cat([known, hidden], dim=-2).flatten(0, 1).permute(0, 2, 3, 1)
    return [PIL.Image.fromarray(image.contiguous().numpy()) for image in images]
