"""Completions that can be redrawn one by one: each has its own seed, written into its PNG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from ..config.schema import SamplingConfig
from ..remote_code.image_io import Picture, known_halves
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from .png_metadata import fingerprint

MOST_PIXELS = 2**26
"""Of a batch that `reproduce` computes because a picture says so: 64 images of 1024x1024."""


@dataclass(frozen=True)
class Completion:
    """A whole face and how it was drawn.

    Args:
        image: The face.
        facts: What `save_png` takes, by keyword.
    """

    image: PIL.Image.Image
    facts: Mapping[str, Any]


def model_name(model: str) -> str:
    """How a picture names its model: a Hub id as it is, a folder without where it lies."""
    path = Path(model)
    if not path.exists():
        return model
    path = path.resolve()
    return f"{path.parent.parent.name} {path.name}" if path.parent.name == "checkpoints" else path.name


def model_metadata(pipe: HalfFaceInpaintPipeline, model: str) -> dict[str, Any]:
    """What every picture of a model says of it.

    Args:
        pipe: The model.
        model: Its name.

    Returns:
        Facts for `save_png`, by keyword.
    """
    return {
        "model": model,
        "hidden_half": pipe.config.hidden_half,
        "weights": fingerprint(pipe.unet),
        "torch": torch.__version__,
        "dtype": str(pipe.unet.dtype).removeprefix("torch."),
    }


def complete_halves(
    pipe: HalfFaceInpaintPipeline,
    halves: Sequence[Picture],
    sampling: SamplingConfig,
    batch_size: int,
    model: str,
) -> list[Completion]:
    """Completes each half; completion k of every half is the first one drawn from seed + k.

    Args:
        pipe: The model with the sampler to use.
        halves: Visible halves.
        sampling: Steps, completions of each half, and the seed of the first completion of each half; its scheduler
            is the name that the pictures state.
        batch_size: Completions computed at once.
        model: Name of the model that the pictures state.

    Returns:
        The completions of one half together, in the order of the halves.

    Raises:
        ValueError: If a number is out of range or a half does not fit.
    """
    num_completions, num_inference_steps = sampling.num_completions, sampling.num_inference_steps
    if sampling.seed + num_completions > 2**63:
        raise ValueError(f"seed is {sampling.seed}; with {num_completions} completions it must be below 2**63 - n")
    seeds = [sampling.seed + k for _ in halves for k in range(num_completions)]
    generators = [torch.Generator().manual_seed(each) for each in seeds]
    images = pipe(halves, num_completions, num_inference_steps, generators, batch_size=batch_size).images
    shared = {"sampler": sampling.scheduler, "steps": num_inference_steps, **model_metadata(pipe, model)}
    completions = []
    for index, (image, own) in enumerate(zip(images, seeds, strict=True)):
        first = index - index % batch_size
        batch = min(batch_size, len(seeds) - first)
        completions.append(Completion(image, {**shared, "seed": own, "batch": batch}))
    return completions


def reproduce(pipe: HalfFaceInpaintPipeline, image: PIL.Image.Image, facts: Mapping[str, Any]) -> PIL.Image.Image:
    """Draws a completion from what its PNG says; on the same machine and versions, with the same bits.

    Args:
        pipe: The model it names, with the sampler it names.
        image: The picture; only its visible half is used.
        facts: From `read_png`.

    Returns:
        The completion.

    Raises:
        ValueError: If the picture or its facts do not belong to this model.
    """
    size = (pipe.config.height, pipe.config.width)
    if (image.height, image.width) != size:
        raise ValueError(f"the picture is {image.height}x{image.width}; the model draws {size[0]}x{size[1]}")
    weights = fingerprint(pipe.unet)
    if facts.get("weights", weights) != weights:
        raise ValueError(f"the picture was drawn by weights {facts['weights']}; the model has {weights}")
    half = known_halves(np.array(image.convert("RGB"))[None], pipe.config.hidden_half)[0]
    # Kernels may add in another order for a batch of another size, so that the batch is filled up with copies.
    copies = facts.get("batch", 1)
    if copies * pipe.config.height * pipe.config.width > MOST_PIXELS:
        raise ValueError(f"the picture names a batch of {copies}; at {size[0]}x{size[1]} that is too large to redraw")
    generators = [torch.Generator().manual_seed(facts["seed"]) for _ in range(copies)]
    result: PIL.Image.Image = pipe(half, copies, facts["steps"], generators).images[0]
    return result
