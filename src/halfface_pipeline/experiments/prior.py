"""Conditional model or generative prior: completions of both beside exact samples of p(bottom | top)."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image
import torch

from ..config.schema import SamplingConfig
from ..diffusion.samplers import FEW_STEP_SAMPLER, FEW_STEPS, make_sampler
from ..evaluation.metrics.scoring import distances
from ..evaluation.trials import EvaluationBatch, complete, scores_per_face
from ..inference.sheets import sheet
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from ..remote_code.posterior import METHODS
from ..remote_code.prior_pipeline import FacePriorPipeline
from .gaussian_posterior import STEPS, gaussian_errors
from .results import Result, Row

SHOWN_FACES = 6
COST = ("dps", "pigdm", "tds")
"""Methods that need a gradient with each evaluation."""
MEASURES = ("energy_score", "determined_pixel_error", "spread", "seam_gradient", "residual_noise")
COLUMNS = {
    "evaluations": "of the network per completion; with a gradient each costs about three",
    "cpu_seconds": "per completion, of all threads",
    "energy_score": "of pixels in [0, 1] against the real half; smallest for exact samples",
    "determined_pixel_error": "over pixels that the top half determines; 0 for exact samples",
    "spread": "standard deviation of a pixel among the completions of a face",
    "seam_gradient": "mean difference of the two rows at the seam",
    "residual_noise": "standard deviation of white noise left",
    "effective_sample_size": "of the particles, the smallest over the steps, mean over completions",
}

Images = tuple[list[PIL.Image.Image], torch.Tensor]


def prior(
    prior_pipe: FacePriorPipeline,
    conditional: HalfFaceInpaintPipeline,
    trial: EvaluationBatch,
    sampling: SamplingConfig,
    methods: Mapping[str, Mapping[str, Any]],
    batch_size: int = 32,
    gaussian_steps: Sequence[int] = STEPS,
) -> Result:
    """Completes the same procedural faces by a conditional model and by every method on a prior.

    Args:
        prior_pipe: The prior.
        conditional: A model of the bottom half, of the same size.
        trial: Procedural faces with exact samples.
        sampling: `num_completions` (2 or more), `num_inference_steps` and `seed`.
        methods: Options of each method by its name.
        batch_size: Completions computed at once.
        gaussian_steps: Denoising steps on Gaussian images, whose posterior is a closed form.

    Returns:
        A sheet with one column per sampler; one row per sampler, means over faces with 95 % intervals, and those as
        numbers in the table `intervals`; errors on Gaussian images in the table `gaussian`.

    Raises:
        ValueError: If the truth about the hidden halves is not known, or there are too few completions.
    """
    if trial.exact is None or trial.determined is None:
        raise ValueError(
            "the faces are photographs; exact samples are known for procedural faces with the bottom hidden"
        )
    if sampling.num_completions < 2:
        raise ValueError(f"n is {sampling.num_completions}; the energy score needs at least 2 completions")
    count, steps, seed = sampling.num_completions, sampling.num_inference_steps, sampling.seed
    rows: list[Row] = []
    intervals: list[Row] = []
    pictures = [_whole(trial, trial.exact)]
    known = {"sampler": "exact samples", "evaluations": None, "cpu_seconds": None, "effective_sample_size": None}
    _add(rows, intervals, known, trial, trial.exact)

    trained = conditional.scheduler
    for name, scheduler, number in (("ddpm", trained, steps), (FEW_STEP_SAMPLER, None, FEW_STEPS)):
        conditional.scheduler = scheduler or make_sampler(name, trained)
        title = f"conditional {name} {number}"
        (images, hidden), seconds = _timed(
            lambda number=number, title=title: complete(conditional, trial, count, number, seed, batch_size, title)  # type: ignore[misc]
        )
        cost = {"evaluations": number, "cpu_seconds": seconds / len(images), "effective_sample_size": None}
        _add(rows, intervals, {"sampler": title, **cost}, trial, hidden)
        if name == "ddpm":
            pictures.append(images)
    conditional.scheduler = trained

    for method, options in methods.items():
        generator = torch.Generator().manual_seed(seed)
        out, seconds = _timed(
            lambda method=method, options=options, generator=generator: prior_pipe(  # type: ignore[misc]
                list(trial.images), "bottom", method, count, steps, generator, batch_size=batch_size, **options
            )
        )
        words = " ".join(f"{name}={value}" for name, value in options.items())
        sizes = out.effective_sample_size
        cost = {
            "evaluations": out.num_evaluations,
            "cpu_seconds": seconds / len(out.images),
            "effective_sample_size": None if sizes is None else float(sizes.mean()),
        }
        _add(rows, intervals, {"sampler": f"{method} {words}".strip(), **cost}, trial, _hidden(out.images, trial))
        pictures.append(out.images)
    shown = range(min(SHOWN_FACES, len(trial.images)))
    titles = ("original", "exact", "conditional", *methods)
    picture = sheet(
        [trial.originals[face] for face in shown],
        [column[face * count] for face in shown for column in pictures],
        titles,
    )
    settings = {
        "num_inference_steps": steps,
        "num_faces": len(trial.images),
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


def energy_score(trial: EvaluationBatch, hidden: torch.Tensor) -> torch.Tensor:
    """Energy score of hidden halves (N, K, 3, h, w) uint8 against the real ones, (N,), pixels in [0, 1]."""
    return distances(trial.truth.flatten(1) / 255, hidden.flatten(2) / 255).energy_score


def _timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """What an action returns and the CPU seconds it took: other programs on the machine do not count."""
    start = time.process_time()
    return action(), time.process_time() - start


def _add(rows: list[Row], intervals: list[Row], known: Row, trial: EvaluationBatch, hidden: torch.Tensor) -> None:
    values = {"energy_score": energy_score(trial, hidden), **scores_per_face(trial, hidden)}
    row = {name: known[name] for name in ("sampler", "evaluations", "cpu_seconds")}
    for name in MEASURES:
        mean = float(values[name].mean())
        half_width = 1.96 * float(values[name].std()) / len(values[name]) ** 0.5
        row[name] = f"{mean:.4f} ± {half_width:.4f}"
        intervals.append(
            {
                "sampler": known["sampler"],
                "measure": name,
                "mean": mean,
                "low": mean - half_width,
                "high": mean + half_width,
            }
        )
    rows.append({**row, "effective_sample_size": known["effective_sample_size"]})


def _hidden(images: Sequence[PIL.Image.Image], trial: EvaluationBatch) -> torch.Tensor:
    """Bottom halves (N, K, 3, h, w) uint8 of completions, those of one face together."""
    whole = torch.from_numpy(np.stack([np.array(image) for image in images])).permute(0, 3, 1, 2)
    return whole[:, :, whole.shape[2] // 2 :].unflatten(0, (len(trial.images), -1))


def _whole(trial: EvaluationBatch, hidden: torch.Tensor) -> list[PIL.Image.Image]:
    """Faces with bottom halves (N, K, 3, h, w) uint8 in place of their own."""
    known = trial.known[:, None].expand(-1, hidden.shape[1], -1, -1, -1)
    images = torch.cat([known, hidden], dim=-2).flatten(0, 1).permute(0, 2, 3, 1)
    return [PIL.Image.fromarray(image.contiguous().numpy()) for image in images]
