"""Loading a model of whole images, a prior or one trained for masks, and completing photos with it under a mask."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from diffusers import SchedulerMixin, UNet2DModel

from ..config.schema import SamplingConfig
from ..diffusion.halves import cut
from ..remote_code.halves import join, to_canonical
from ..remote_code.masks import Mask
from ..remote_code.noise_levels import Generators
from ..remote_code.pipeline import HalfFaceOutput
from ..remote_code.posterior import DEFAULT_METHOD
from ..remote_code.prior_pipeline import FacePriorPipeline
from .complete import Completion
from .load import PACKAGED, from_pretrained
from .png_metadata import PART_GENERATED, fingerprint

CLASSES = ("FacePriorPipeline", "DDPMPipeline")
"""What model_index.json of such a model names: ours, or that of any unconditional model of diffusers."""


def is_prior(model: str | None) -> bool:
    """Whether a run folder or a model of the Hub is one of whole images; false too where there is no model."""
    if model is None or (model in PACKAGED and not Path(model).exists()):
        return False
    index = Path(model, "model_index.json")
    try:
        config = json.loads(index.read_text()) if Path(model).exists() else FacePriorPipeline.load_config(model)
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("_class_name") in CLASSES


def load_prior(model: str, option: str = "--model") -> FacePriorPipeline:
    """A model of whole images from a run folder or the Hub, on the GPU if there is one.

    ValueError, naming `option`, if it is none.
    """
    pipe: FacePriorPipeline = from_pretrained(FacePriorPipeline, model, option)
    return pipe


class PriorOfHalf(FacePriorPipeline):
    """A model of whole images in the place of a `HalfFaceInpaintPipeline`: it takes and returns what that does.

    A prior samples by the default method.

    Args:
        unet: As in `FacePriorPipeline`.
        scheduler: As in `FacePriorPipeline`.
        height: Height of images in pixels.
        width: Width of images in pixels.
        hidden_half: The half that is generated.
        known_layout: What a pipeline of halves names its layout in; None for what the network makes of the seen part.
        trained_noise: As in `FacePriorPipeline`.
    """

    def __init__(
        self,
        unet: UNet2DModel,
        scheduler: SchedulerMixin,
        height: int | None = None,
        width: int | None = None,
        hidden_half: str = "bottom",
        known_layout: str | None = None,
        trained_noise: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(unet, scheduler, height, width, trained_noise)
        kind = "mask channel" if self.trained_for_masks else f"prior {DEFAULT_METHOD}"
        self.register_to_config(hidden_half=hidden_half, known_layout=known_layout or kind)

    def __call__(  # type: ignore[override]
        self,
        top_half: Sequence[np.ndarray],
        num_completions: int = 1,
        num_inference_steps: int = 50,
        generator: Generators = None,
        batch_size: int | None = None,
    ) -> HalfFaceOutput:
        """Completes known halves, NumPy (h, w, C), as `HalfFaceInpaintPipeline.__call__`."""
        hidden, wholes = self.config.hidden_half, []
        for each in top_half:
            known = to_canonical(torch.from_numpy(np.ascontiguousarray(each)).permute(2, 0, 1), hidden)
            wholes.append(join(known, torch.zeros_like(known), hidden).permute(1, 2, 0).numpy())
        out = super().__call__(
            wholes, hidden, None, num_completions, num_inference_steps, generator, batch_size=batch_size
        )
        arrays = torch.from_numpy(np.stack([np.array(image) for image in out.images])).permute(0, 3, 1, 2)
        halves = cut(arrays, hidden)[1].permute(0, 2, 3, 1).contiguous().numpy()
        return HalfFaceOutput(out.images, [PIL.Image.fromarray(half) for half in halves])


def load_prior_of_half(model: str) -> PriorOfHalf:
    """A model of whole images in the place of one of the bottom half; errors as in `load_prior`."""
    pipe: PriorOfHalf = from_pretrained(PriorOfHalf, model)
    return pipe


def complete_masked(
    pipe: FacePriorPipeline,
    photos: Sequence[PIL.Image.Image],
    mask: Mask,
    method: str | None,
    sampling: SamplingConfig,
    batch_size: int,
    model: str,
) -> list[Completion]:
    """Completes each upright RGB photo where the mask hides it; completion k of every photo is sampled from seed + k.

    Otherwise as `complete_halves`; the mask and the method are those of `FacePriorPipeline.__call__`.
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
    )
    metadata = {
        "model": model,
        "sampler": sampling.scheduler,
        "steps": sampling.num_inference_steps,
        "mask": mask if isinstance(mask, str) else "image",
        "method": "none" if pipe.trained_for_masks else method or "default",
        "evaluations": out.num_evaluations,
        "weights": fingerprint(pipe.unet),
        "torch": torch.__version__,
        "comment": PART_GENERATED,
    }
    return [Completion(image, {**metadata, "seed": own}) for image, own in zip(out.images, seeds, strict=True)]
