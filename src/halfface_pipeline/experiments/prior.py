"""Conditional models or a generative prior: completions of all beside exact samples of p(bottom | top)."""

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
from ..remote_code.masks import Mask
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from ..remote_code.posterior import METHODS
from ..remote_code.prior_pipeline import FacePriorOutput, FacePriorPipeline
from .gaussian_posterior import STEPS, gaussian_errors
from .results import Result, Row

SHOWN_FACES = 6
MEASURES = (
    "energy_score",
    "determined_pixel_error",
    "spread",
    "seam_gradient",
    "residual_noise",
    "box_energy_score",
)
COLUMNS = {
    "evaluations": "of the network per completion; with a gradient each costs about three",
    "cpu_seconds": "per completion, of all threads: other programs on the machine do not count",
    "energy_score": "of pixels in [0, 1] against the real half; smallest for exact samples",
    "determined_pixel_error": "over pixels that the top half determines; 0 for exact samples",
    "spread": "standard deviation of a pixel among the completions of a face",
    "seam_gradient": "mean difference of the two rows at the seam",
    "residual_noise": "standard deviation of white noise left",
    "box_energy_score": "the energy score where a box in the middle, a quarter of the face, is hidden instead",
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
    masked: FacePriorPipeline | None = None,
) -> Result:
    """Completes the same procedural faces by a model of the bottom half and by methods, with options, on a prior.

    A model trained for masks may stand beside them; like the prior it also completes a box in the middle. The table
    has means over faces with 95 % intervals, `intervals` the same as numbers, `gaussian` errors on Gaussian images,
    whose posterior is a closed form. ValueError if the faces are not procedural, or for a single completion.
    """
    if batch.exact is None or batch.determined is None:
        raise ValueError(
            "the faces are photographs; exact samples are known for procedural faces with the bottom hidden"
        )
    if sampling.num_completions < 2:
        raise ValueError(f"n is {sampling.num_completions}; the energy score needs at least 2 completions")
    count, steps = sampling.num_completions, sampling.num_inference_steps
    samplers = (("ddpm", steps), (FEW_STEP_SAMPLER, FEW_STEPS))
    rows: list[Row] = []
    intervals: list[Row] = []
    columns = {"exact": _whole(batch, batch.exact)}
    known = {"sampler": "exact samples", "evaluations": None, "cpu_seconds": None, "effective_sample_size": None}
    _add(rows, intervals, known, scores(batch, batch.exact))

    trained = conditional.scheduler
    for name, number in samplers:
        conditional.scheduler = make_sampler(name, trained)
        title, own = f"conditional {name} {number}", replace(sampling, num_inference_steps=number)
        start = time.process_time()
        images, hidden = complete(conditional, batch.images, own, batch_size, title)
        cost: Row = {"evaluations": number, "cpu_seconds": (time.process_time() - start) / len(images)}
        _add(rows, intervals, {"sampler": title, **cost, "effective_sample_size": None}, scores(batch, hidden))
        columns.setdefault("conditional", images)
    conditional.scheduler = trained

    def add(pipe: FacePriorPipeline, column: str, title: str, number: int, method: str | None, **options: Any) -> None:
        start, own = time.process_time(), replace(sampling, num_inference_steps=number)
        out = _completed(pipe, batch, "bottom", method, own, batch_size, options)
        seconds, sizes = time.process_time() - start, out.effective_sample_size
        cost = {
            "evaluations": out.num_evaluations,
            "cpu_seconds": seconds / len(out.images),
            "effective_sample_size": None if sizes is None else float(sizes.mean()),
        }
        box = box_energy_score(batch, _completed(pipe, batch, _box(batch), method, own, batch_size, options).images)
        values = {**scores(batch, _hidden(out.images, batch)), "box_energy_score": box}
        _add(rows, intervals, {"sampler": title, **cost}, values)
        columns.setdefault(column, out.images)

    if masked is not None:
        trained = masked.scheduler
        for name, number in samplers:
            masked.scheduler = make_sampler(name, trained)
            add(masked, "any mask", f"any mask {name} {number}", number, None)
        masked.scheduler = trained
    for method, options in methods.items():
        words = " ".join(f"{name}={value}" for name, value in options.items())
        add(prior_pipe, method, f"{method} {words}".strip(), steps, method, **options)
    picture = comparison(
        batch.originals[:SHOWN_FACES], [images[::count] for images in columns.values()], list(columns)
    )
    settings = {
        "num_inference_steps": steps,
        "num_faces": len(batch.images),
        "num_completions": count,
        "seed": sampling.seed,
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


def scores(batch: EvaluationBatch, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every measure of hidden halves (N, K, 3, h, w) uint8 but that of the box, (N,)."""
    return {"energy_score": energy_score(batch, hidden), **scores_per_face(batch, hidden)}


def box_energy_score(batch: EvaluationBatch, images: Sequence[PIL.Image.Image]) -> torch.Tensor:
    """Energy score of whole faces over the box in their middle, (N,), pixels in [0, 1]."""
    inside = torch.from_numpy(_box(batch))
    truth, completed = (
        torch.from_numpy(np.stack([np.asarray(image) for image in each]))[:, inside].flatten(1) / 255
        for each in (batch.originals, images)
    )
    return distances(truth, completed.unflatten(0, (len(truth), -1))).energy_score


def _box(batch: EvaluationBatch) -> np.ndarray:
    """The middle half of the rows and columns, booleans (H, W)."""
    height, width = batch.images.shape[1:3]
    box = np.zeros((height, width), bool)
    box[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return box


def _completed(
    pipe: FacePriorPipeline,
    batch: EvaluationBatch,
    mask: Mask,
    method: str | None,
    sampling: SamplingConfig,
    batch_size: int,
    options: Mapping[str, Any],
) -> FacePriorOutput:
    generator = torch.Generator().manual_seed(sampling.seed)
    count, steps = sampling.num_completions, sampling.num_inference_steps
    return pipe(list(batch.images), mask, method, count, steps, generator, batch_size=batch_size, **options)


def _add(rows: list[Row], intervals: list[Row], known: Row, values: Mapping[str, torch.Tensor]) -> None:
    row = {name: known[name] for name in ("sampler", "evaluations", "cpu_seconds")}
    for name in MEASURES:
        if name not in values:
            row[name] = None
            continue
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
