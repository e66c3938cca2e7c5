"""Loading a generative prior and completing photos with it under a mask."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import torch

from ..config.schema import SamplingConfig
from ..remote_code.masks import Mask
from ..remote_code.prior_pipeline import FacePriorPipeline
from .complete import Completion
from .png_metadata import PART_GENERATED, fingerprint

CLASSES = ("FacePriorPipeline", "DDPMPipeline")
"""What model_index.json of a prior names: ours, or that of any unconditional model of diffusers."""


def is_prior(model: str) -> bool:
    """Whether a run folder or a model of the Hub is a prior; false too where there is no model."""
    index = Path(model, "model_index.json")
    try:
        config = json.loads(index.read_text()) if Path(model).exists() else FacePriorPipeline.load_config(model)
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("_class_name") in CLASSES


def load_prior(model: str) -> FacePriorPipeline:
    """A prior from a run folder or the Hub, on the GPU if there is one.

    Args:
        model: Run folder or Hub id.

    Returns:
        The pipeline.

    Raises:
        ValueError: If it is a model of halves, or none at all.
    """
    try:
        pipe = FacePriorPipeline.from_pretrained(model)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, NotImplementedError) as error:
        raise ValueError(f"the model is {model!r}, which could not be loaded as a prior: {error}") from error
    return pipe.to("cuda" if torch.cuda.is_available() else "cpu")


def complete_masked(
    pipe: FacePriorPipeline,
    photos: Sequence[PIL.Image.Image],
    mask: Mask,
    method: str | None,
    sampling: SamplingConfig,
    batch_size: int,
    model: str,
    **options: Any,
) -> list[Completion]:
    """Completes each photo where the mask hides it; completion k of every photo is sampled from seed + k.

    Args:
        pipe: The prior with the sampler to use.
        photos: Upright RGB images.
        mask: As `FacePriorPipeline` takes it.
        method: Name of the method, or None.
        sampling: Steps, completions of each photo, and the seed of the first; its scheduler is the name that the
            pictures state.
        batch_size: Completions computed at once.
        model: Name of the model that the pictures state.
        **options: Of the method.

    Returns:
        The completions of one photo together, in the order of the photos.

    Raises:
        ValueError: If an argument does not fit.
    """
    seeds = [sampling.seed + k for _ in photos for k in range(sampling.num_completions)]
    generators = [torch.Generator().manual_seed(each) for each in seeds]
    out = pipe(
        list(photos),
        mask,
        method,
        sampling.num_completions,
        sampling.num_inference_steps,
        generators,
        batch_size=batch_size,
        **options,
    )
    facts = {
        "model": model,
        "sampler": sampling.scheduler,
        "steps": sampling.num_inference_steps,
        "mask": mask if isinstance(mask, str) else "image",
        "method": method or "default",
        "evaluations": out.num_evaluations,
        "weights": fingerprint(pipe.unet),
        "torch": torch.__version__,
        "comment": PART_GENERATED,
    }
    return [Completion(image, {**facts, "seed": own}) for image, own in zip(out.images, seeds, strict=True)]
