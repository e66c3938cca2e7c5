"""A trial of a model: faces, their halves, what an exact sampler would draw where that is known, and completions."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import PIL.Image
import torch
from tqdm.auto import tqdm

from ..config.schema import DataConfig
from ..data.images import ImageSet, load_images
from ..data.procedural import render
from ..data.procedural.factors import HAIR_COLOURS, Factors, draw_factors, redraw
from ..data.sources import PROCEDURAL_EVAL_START, Split
from ..remote_code.halves import split as cut_in_two
from ..remote_code.halves import to_canonical
from ..remote_code.image_io import known_halves
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from .metrics import pixel as measures

NUM_REDRAWS = 32
"""Exact redraws of each procedural face that tell its determined pixels."""


@dataclass(frozen=True, eq=False)
class EvaluationBatch:
    """Faces to complete. Halves are uint8 in the turned frame; N faces, halves of h by w.

    Attributes:
        images: Whole faces, (N, H, W, 3) uint8.
        hidden_half: The half that is hidden.
        known: (N, 3, h, w).
        truth: (N, 3, h, w).
        factors: What procedural faces are drawn from, where the truth about their hidden half is known.
        exact: Exact samples of p(hidden | known), (N, K, 3, h, w), where it is known.
        determined: Pixels that the known half decides, (N, h, w) booleans, where they are known.
    """

    images: np.ndarray
    hidden_half: str
    known: torch.Tensor
    truth: torch.Tensor
    factors: Factors | None = None
    exact: torch.Tensor | None = None
    determined: torch.Tensor | None = None

    @property
    def originals(self) -> list[PIL.Image.Image]:
        """The whole faces as pictures."""
        return [PIL.Image.fromarray(image) for image in self.images]


def load_trial(
    pipe: HalfFaceInpaintPipeline,
    data: DataConfig,
    num_faces: int,
    num_completions: int,
    split: Split = "eval",
    num_redraws: int = NUM_REDRAWS,
) -> EvaluationBatch:
    """The first faces of a part of the data, with exact samples for procedural faces whose bottom is hidden.

    Args:
        pipe: The model; its hidden half is cut off.
        data: Where faces come from; their size must be the model's.
        num_faces: How many.
        num_completions: Exact samples of each.
        split: The held-out part, or the part trained on.
        num_redraws: Further exact samples, which tell the determined pixels.

    Returns:
        The trial.

    Raises:
        ValueError: If there are too few faces or completions.
    """
    faces = load_faces(data, num_faces, num_completions, split)
    return trial_of(faces, pipe.config.hidden_half, data, range(num_faces), num_completions, split, num_redraws)


def load_faces(data: DataConfig, num_faces: int, num_completions: int, split: Split = "eval") -> ImageSet:
    """A part of the data, checked to hold enough faces; ValueError if it does not."""
    if num_faces < 2:
        raise ValueError(f"num_faces is {num_faces}; another face's half needs at least 2")
    if num_completions < 1:
        raise ValueError(f"num_completions is {num_completions}; it must be at least 1")
    faces = load_images(data, split)
    if len(faces) < num_faces:
        part = "held-out part" if split == "eval" else "part trained on"
        raise ValueError(f"num_faces is {num_faces}; the {part} has {len(faces)}")
    return faces


def trial_of(
    faces: ImageSet,
    hidden_half: str,
    data: DataConfig,
    rows: range,
    num_completions: int,
    split: Split = "eval",
    num_redraws: int = NUM_REDRAWS,
) -> EvaluationBatch:
    """Some of the faces as a trial, so that many can be gone through a few at a time.

    Args:
        faces: A part of the data.
        hidden_half: The half that is cut off.
        data: Where the faces come from.
        rows: Which of them, one after the other.
        num_completions: Exact samples of each.
        split: The part that `faces` is.
        num_redraws: Further exact samples, which tell the determined pixels.

    Returns:
        The trial.
    """
    plain = plain_trial(faces, hidden_half, rows)
    if data.source != "procedural" or hidden_half != "bottom":
        return plain
    factors = held_factors(data, len(rows), split, rows.start)
    redraws = exact_redraws(factors, data.height, data.width, num_redraws + num_completions, seed=rows.start)
    determined = measures.determined_pixels(redraws[:, :num_redraws])
    exact = redraws[:, num_redraws:]
    return replace(plain, factors=factors, exact=exact, determined=determined)


def plain_trial(faces: ImageSet, hidden_half: str, rows: range) -> EvaluationBatch:
    """Some of the faces as a trial without exact samples."""
    images = np.array(faces.images[rows.start : rows.stop])
    known, truth = cut_in_two(torch.from_numpy(images).permute(0, 3, 1, 2), hidden_half)
    return EvaluationBatch(images, hidden_half, known, truth)


def held_factors(data: DataConfig, num_faces: int, split: Split = "eval", first: int = 0) -> Factors:
    """What procedural faces of a part are drawn from, from the one numbered `first` on."""
    start = first + (PROCEDURAL_EVAL_START if split == "eval" else 0)
    return draw_factors(data.seed, np.arange(start, start + num_faces))


def exact_redraws(factors: Factors, height: int, width: int, num_redraws: int, seed: int = 0) -> torch.Tensor:
    """Exact samples of p(bottom | top) for procedural faces.

    Args:
        factors: Of N faces.
        height: Height of whole images in pixels.
        width: Width of whole images in pixels.
        num_redraws: Samples of each.
        seed: Of the free factors.

    Returns:
        Bottom halves, (N, num_redraws, 3, H/2, W) uint8.
    """
    generator = np.random.default_rng(seed)
    drawn = [render(redraw(factors, generator), height, width) for _ in range(num_redraws)]
    return torch.from_numpy(np.stack(drawn, axis=1)[:, :, height // 2 :]).permute(0, 1, 4, 2, 3)


def complete(
    pipe: HalfFaceInpaintPipeline,
    trial: EvaluationBatch,
    num_completions: int,
    num_inference_steps: int,
    seed: int = 0,
    batch_size: int = 32,
    label: str | None = "completing",
    first: int = 0,
) -> tuple[list[PIL.Image.Image], torch.Tensor]:
    """Completes every face of a trial.

    The same seed gives a completion the same initial noise whatever the scheduler and the steps.

    Args:
        pipe: The model, with the sampler to use.
        trial: The faces.
        num_completions: Completions of each.
        num_inference_steps: Denoising steps.
        seed: Of the noise.
        batch_size: Completions computed at once.
        label: Before the progress bar; none shows no bar.
        first: Faces that the same seed has completed before, so that parts of a larger set come out as in the whole.

    Returns:
        Whole faces, those of one half together, and the hidden halves (N, K, 3, h, w) uint8 in the turned frame.

    Raises:
        ValueError: If there is nothing to complete, the scheduler cannot take so many steps, or the model gives values
            that are not finite.
    """
    for name, value in {"num_completions": num_completions, "batch_size": batch_size}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    halves = known_halves(trial.images, trial.hidden_half)
    completed: list[PIL.Image.Image] = []
    drawn: list[torch.Tensor] = []
    seeds = np.random.default_rng(seed).integers(2**63 - 1, size=first + len(halves))[first:].tolist()
    generators = [torch.Generator().manual_seed(face_seed) for face_seed in seeds]
    pipe.set_progress_bar_config(disable=True)
    per_call = max(1, batch_size // num_completions)
    with tqdm(total=len(halves) * num_completions, desc=label, unit="face", disable=label is None) as bar:
        for start in range(0, len(halves), per_call):
            result = pipe(
                halves[start : start + per_call],
                num_completions=num_completions,
                num_inference_steps=num_inference_steps,
                generator=generators[start : start + per_call],
                callback_on_step_end=_check_finite,
            )
            completed += result.images
            drawn += [torch.tensor(np.array(half)).permute(2, 0, 1) for half in result.hidden_halves]
            bar.update(len(result.images))
    return completed, to_canonical(torch.stack(drawn), trial.hidden_half).unflatten(0, (len(halves), num_completions))


def _check_finite(pipe: HalfFaceInpaintPipeline, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """Pixels that are not numbers would turn into black ones without a word."""
    if not bool(tensors["latents"].isfinite().all()):
        name = type(pipe.scheduler).__name__
        raise ValueError(f"the model gives values that are not finite numbers at step {step + 1} of {name}")
    return {}


def scores_per_face(trial: EvaluationBatch, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every measure that can be taken, for each face.

    Args:
        trial: The faces.
        hidden: Hidden halves to measure, (N, K, 3, h, w) uint8 in the turned frame.

    Returns:
        (N,) for each measure, on the scale of pixel values from 0 to 1.

    Raises:
        ValueError: If the halves are not of the trial's faces, or of another size.
    """
    if hidden.shape[0] != len(trial.truth) or hidden.shape[2:] != trial.truth.shape[1:]:
        raise ValueError(
            f"hidden has shape {tuple(hidden.shape)}; it must be (N, K, ...) for halves {tuple(trial.truth.shape)}"
        )
    halves, known, truth = hidden / 255, trial.known[:, None] / 255, trial.truth / 255
    values = {}
    if trial.determined is not None:
        values["determined_pixel_error"] = measures.determined_pixel_error(halves, truth, trial.determined).mean(dim=1)
    values["residual_noise"] = measures.residual_noise(halves).mean(dim=1)
    values["seam_gradient"] = measures.seam_gradient(known, halves).mean(dim=1)
    values["seam_colour_difference"] = measures.seam_colour_difference(known, halves).mean(dim=1)
    if hidden.shape[1] > 1:
        values["spread"] = measures.spread(halves)
    return values


def scores(trial: EvaluationBatch, hidden: torch.Tensor) -> dict[str, float]:
    """Means over the faces of `scores_per_face`."""
    return {name: float(value.mean()) for name, value in scores_per_face(trial, hidden).items()}


def region(factors: Factors, fields: tuple[str, ...], height: int, width: int) -> torch.Tensor:
    """Where in the bottom half a colour shows: the pixels that follow when it goes from black to white.

    Args:
        factors: Of N faces.
        fields: The colours, such as `hair`.
        height: Height of whole images in pixels.
        width: Width of whole images in pixels.

    Returns:
        (N, H/2, W) booleans.
    """
    shown = []
    for level in (0.0, 1.0):
        colour = np.full((len(factors), 3), level, np.float32)
        shown.append(render(replace(factors, **dict.fromkeys(fields, colour)), height, width).astype(np.int16))
    share = (shown[1] - shown[0])[:, height // 2 :].min(axis=-1) / 255
    return torch.from_numpy(share > 0.5)


def hair_colours(factors: Factors) -> list[str]:
    """The name of each face's hair colour, whatever its brightness."""
    ratios = factors.hair[:, None] / np.array(list(HAIR_COLOURS.values()))
    return [list(HAIR_COLOURS)[place] for place in ratios.std(axis=-1).argmin(axis=-1)]
