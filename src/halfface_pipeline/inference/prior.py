"""Loading a generative prior and completing photos with it under a mask."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers.configuration_utils import FrozenDict

from ..config.schema import SamplingConfig
from ..diffusion.halves import cut
from ..remote_code.halves import half_size, join, to_canonical
from ..remote_code.image_io import OutputType, Picture
from ..remote_code.masks import Mask
from ..remote_code.noise_levels import Generators
from ..remote_code.pipeline import HalfFaceOutput
from ..remote_code.posterior import DEFAULT_METHOD
from ..remote_code.prior_pipeline import FacePriorPipeline
from .complete import Completion
from .load import PACKAGED
from .png_metadata import PART_GENERATED, fingerprint

CLASSES = ("FacePriorPipeline", "DDPMPipeline")
"""What model_index.json of a prior names: ours, or that of any unconditional model of diffusers."""


def is_prior(model: str | None) -> bool:
    """Whether a run folder or a model of the Hub is a prior; false too where there is no model."""
    if model is None or (model in PACKAGED and not Path(model).exists()):
        return False
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


class PriorOfHalf:
    """A prior in the place of a `HalfFaceInpaintPipeline`: it takes and returns what that does.

    Args:
        pipe: The prior.
        hidden_half: `bottom`, `top`, `left` or `right`.
        method: Name of the method, or None.
        **options: Of the method.

    Attributes:
        pipe: The prior.
        config: Size and hidden half, as of a pipeline of halves; `known_layout` names the method.
    """

    def __init__(self, pipe: FacePriorPipeline, hidden_half: str, method: str | None = None, **options: Any) -> None:
        half_size(pipe.config.height, pipe.config.width, hidden_half)
        self.pipe, self.method, self.options = pipe, method, options
        size = {"height": pipe.config.height, "width": pipe.config.width}
        source = {"_name_or_path": pipe.config.get("_name_or_path")}
        layout = " ".join(["prior", method or DEFAULT_METHOD, *(f"{key}={value}" for key, value in options.items())])
        self.config = FrozenDict({**size, **source, "hidden_half": hidden_half, "known_layout": layout})

    def __getattr__(self, name: str) -> Any:
        """Everything else is the prior's own."""
        return getattr(self.pipe, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """A scheduler is set on the prior."""
        if name == "scheduler":
            self.pipe.scheduler = value
        else:
            super().__setattr__(name, value)

    def __call__(
        self,
        top_half: Picture | Sequence[Picture],
        num_completions: int = 1,
        num_inference_steps: int = 50,
        generator: Generators = None,
        output_type: OutputType = "pil",
        callback_on_step_end: Any = None,
        **arguments: Any,
    ) -> HalfFaceOutput:
        """Completes known halves, NumPy (h, w, C) or a list of them, as `HalfFaceInpaintPipeline.__call__`.

        Args:
            top_half: The known halves.
            num_completions: Completions per half.
            num_inference_steps: Denoising steps.
            generator: As in diffusers.
            output_type: `pil`.
            callback_on_step_end: Not called: values that are not finite raise here too.
            **arguments: Of `FacePriorPipeline.__call__`.

        Returns:
            Whole faces and their hidden halves.
        """
        halves = top_half if isinstance(top_half, list) else [top_half]
        half = self.config.hidden_half
        wholes = []
        for each in halves:
            known = to_canonical(torch.from_numpy(np.ascontiguousarray(each)).permute(2, 0, 1), half)
            wholes.append(join(known, torch.zeros_like(known), half).permute(1, 2, 0).numpy())
        out = self.pipe(
            wholes,
            half,
            self.method,
            num_completions,
            num_inference_steps,
            generator,
            output_type=output_type,
            **self.options,
            **arguments,
        )
        arrays = torch.from_numpy(np.stack([np.array(image) for image in out.images])).permute(0, 3, 1, 2)
        hidden = cut(arrays, half)[1].permute(0, 2, 3, 1)
        return HalfFaceOutput(out.images, [PIL.Image.fromarray(each.contiguous().numpy()) for each in hidden])


def load_prior_of_half(model: str, hidden_half: str = "bottom") -> PriorOfHalf:
    """A prior in the place of a model of one half; arguments and errors as in `load_prior`."""
    return PriorOfHalf(load_prior(model), hidden_half)


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
    metadata = {
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
    return [Completion(image, {**metadata, "seed": own}) for image, own in zip(out.images, seeds, strict=True)]
