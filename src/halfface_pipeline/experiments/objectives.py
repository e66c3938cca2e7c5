"""Models compared by noise-prediction error and by the colours they continue, which the loss does not show."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import SchedulerMixin

from ..config.schema import SamplingConfig
from ..data.procedural.factors import HAIR_COLOURS, REGIONS
from ..diffusion.parameterization import noise_and_clean
from ..evaluation.cache import complete
from ..evaluation.dataset import EvaluationBatch
from ..evaluation.factors import hair_colours
from ..evaluation.measure import scores
from ..evaluation.metrics.colour import region
from ..evaluation.metrics.pixel import masked_error
from ..inference.sheets import comparison
from ..remote_code.halves import predict, size_multiple
from ..remote_code.image_io import to_signed
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from .results import Result, Row
from .sampling import sampled_by

HIGH_NOISE = 0.8
"""Timesteps from this fraction of T on are high noise."""
LUMINANCE = (0.299, 0.587, 0.114)
SHOWN_FACES = 6
COLUMNS = {
    "noise_error": "mean squared error of the predicted noise (L_simple), over all timesteps",
    "noise_error_high": f"the same over the timesteps from {HIGH_NOISE} T on, where colours are decided",
    "clean_error_high": "root mean square error of the clean half there, pixel values from 0 to 1",
    "skin_error": "mean absolute error of determined skin pixels; likewise for hair and background",
    "shift": "mean brightness of determined hair pixels minus the true one; positive is blonder",
}


def objectives(
    models: Mapping[str, tuple[HalfFaceInpaintPipeline, SchedulerMixin]],
    faces: EvaluationBatch,
    sampling: SamplingConfig,
    batch_size: int = 32,
) -> Result:
    """Measures every model's noise prediction and its completions of the same faces, also per hair colour.

    Models, each with its sampler, are all of one size with the bottom half hidden; ValueError if the faces are not
    procedural.
    """
    if faces.factors is None or faces.determined is None or faces.exact is None:
        raise ValueError(
            f"hidden_half is {faces.hidden_half!r} or the faces are photographs; the true colours of hidden "
            "halves are known for procedural faces whose bottom is hidden"
        )
    height, width = faces.images.shape[1:3]
    masks = {name: region(faces.factors, fields, height, width) & faces.determined for name, fields in REGIONS.items()}
    names = hair_colours(faces.factors)
    rows: list[Row] = []
    colours: list[Row] = []
    pictures = []
    for model, (pipe, sampler) in models.items():
        errors = noise_prediction_error(pipe, faces, sampling.seed)
        with sampled_by(pipe, sampler):
            images, hidden = complete(pipe, faces.images, sampling, batch_size, model)
        pictures.append(images[:: sampling.num_completions])
        described = {"model": model, "prediction": pipe.scheduler.config.prediction_type}
        rows.append(described | errors | _measures(faces, hidden, masks))
        colours += _by_hair_colour(model, hidden, faces, masks["hair"], names)
    for label, halves in (("exact samples", faces.exact), ("another face", faces.truth.roll(1, 0)[:, None])):
        measures = _measures(faces, halves, masks)
        rows.append({"model": label} | {name: measures.get(name) for name in list(rows[0])[1:]})
    settings = {
        "models": list(models),
        "num_inference_steps": sampling.num_inference_steps,
        "num_faces": len(faces.images),
        "num_completions": sampling.num_completions,
        "seed": sampling.seed,
    }
    picture = comparison(faces.originals[:SHOWN_FACES], pictures, list(models))
    return Result(picture, rows, settings, COLUMNS, {"hair_colours": colours})


def _measures(faces: EvaluationBatch, hidden: torch.Tensor, masks: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    errors = {f"{name}_error": _mean(_error(hidden, faces, mask)) for name, mask in masks.items()}
    return scores(faces, hidden) | errors


@torch.no_grad()
def noise_prediction_error(
    pipe: HalfFaceInpaintPipeline, faces: EvaluationBatch, seed: int = 0, num_levels: int = 20
) -> dict[str, float]:
    """Errors of the network at evenly spaced timesteps, whatever it predicts, as errors of the noise and of x_0.

    The pipeline has the scheduler it was trained under; the names are those of `COLUMNS`.
    """
    scheduler, layout, multiple = pipe.scheduler, pipe.config.known_layout, size_multiple(pipe.unet)
    known, clean = (to_signed(half).to(pipe.device) for half in (faces.known, faces.truth))
    generator = torch.Generator().manual_seed(seed)
    total = scheduler.config.num_train_timesteps
    timesteps = ((torch.arange(num_levels) + 0.5) / num_levels * total).long()
    in_noise, in_clean = [], []
    for t in timesteps.to(pipe.device):
        eps = torch.randn(clean.shape, generator=generator).to(clean)
        noisy = scheduler.add_noise(clean, eps, t[None])
        prediction = predict(pipe.unet, noisy, known, t, layout, multiple)
        predicted_eps, predicted_clean = noise_and_clean(scheduler, prediction, noisy, t[None])
        in_noise.append((predicted_eps - eps).square().mean().cpu())
        in_clean.append((predicted_clean.clamp(-1, 1) - clean).square().mean().cpu())
    high = timesteps >= HIGH_NOISE * total
    noise_errors, clean_errors = torch.stack(in_noise), torch.stack(in_clean)
    return {
        "noise_error": float(noise_errors.mean()),
        "noise_error_high": float(noise_errors[high].mean()),
        "clean_error_high": float(clean_errors[high].mean().sqrt() / 2),
    }


def _error(hidden: torch.Tensor, faces: EvaluationBatch, mask: torch.Tensor) -> torch.Tensor:
    """Mean absolute error inside a region for each face, (N,); NaN where the region is empty."""
    return masked_error(hidden / 255, faces.truth / 255, mask).mean(dim=1)


def _mean(values: torch.Tensor) -> float | None:
    """Over the faces that have a value."""
    return None if bool(values.isnan().all()) else float(values.nanmean())


def _by_hair_colour(
    model: str, hidden: torch.Tensor, faces: EvaluationBatch, mask: torch.Tensor, names: Sequence[str]
) -> list[Row]:
    weights = torch.tensor(LUMINANCE).reshape(3, 1, 1)
    brighter = ((hidden / 255 - faces.truth[:, None] / 255) * weights).sum(dim=2).mean(dim=1)
    shift = (brighter * mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2))
    error = _error(hidden, faces, mask)
    rows = []
    for colour in HAIR_COLOURS:
        chosen = torch.tensor([name == colour for name in names]) & ~error.isnan()
        if bool(chosen.any()):
            numbers = {"faces": int(chosen.sum()), "hair_error": _mean(error[chosen]), "shift": _mean(shift[chosen])}
            rows.append({"model": model, "hair": colour, **numbers})
    return rows
