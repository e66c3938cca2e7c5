"""`HalfFaceInpaintPipeline`: half of a face in, complete faces out. Saved, with its siblings, in every model."""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline, SchedulerMixin, UNet2DModel
from diffusers.utils import BaseOutput

if __name__ == "diffusers_modules.local.pipeline":
    # diffusers gives the code of every local model these module names: forget what another model imported.
    for _name in [name for name in sys.modules if name.startswith("diffusers_modules.local.")]:
        del sys.modules[_name]

from .halves import KNOWN_LAYOUTS, canonical_size, from_canonical, half_size, join, predict, to_canonical
from .image_io import OutputType, Picture, check_finite, postprocess, read_image, to_signed, to_unit
from .model_files import ModelFiles, check_weights, read_sources
from .noise_levels import Generators, check_call, initial_noise, noise_schedule, prepare_scheduler, step


@dataclass
class HalfFaceOutput(BaseOutput):
    """Completed faces; completions of one input are consecutive, in the order of the inputs.

    Args:
        images: Complete faces: a list of PIL images, an array (N, H, W, 3) or a tensor (N, 3, H, W) in [0, 1].
        hidden_halves: The generated halves alone, in the same form. With `output_type="latent"` both are the halves, a
            tensor (N, 3, h, w) in [-1, 1].
    """

    images: Any
    hidden_halves: Any


class HalfFaceInpaintPipeline(ModelFiles, DiffusionPipeline):
    """Generates the hidden half of a face by conditional diffusion (Ho et al. 2020; Saharia et al. 2022).

    The scheduler can be replaced by any diffusers scheduler that works on the trained noise levels:
    `pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)`. Each call works on its own copy
    of the scheduler, so that threads can share a pipeline.

    Args:
        unet: A `UNet2DModel` or `ReportNetwork` from 6 channels (noisy hidden half, clean known half) to 3 channels.
        scheduler: The noise schedule the network was trained under, or a sampler with its configuration.
        height: Height of complete images in pixels.
        width: Width of complete images in pixels.
        hidden_half: The half that the model generates: `bottom`, `top`, `left` or `right`.
        known_layout: How the known half is laid out for the network: `stacked` or `mirrored`.
        eyes: Where the eyes lie in the training images, as fractions of width and height: x, y of the left and of the
            right one as they stand in the image. None for CelebA's aligned images, cut to this aspect.
        trained_on: Name of the training data.
        distilled_steps: Numbers of steps that the network was distilled for; None if it was not. Schedulers that only
            suit a distilled network, such as `LCMScheduler`, are refused for another.
        trained_noise: The noise schedule that the network was trained under, with which every scheduler is compared;
            None takes that of `scheduler`.

    Raises:
        ValueError: If the network does not map 6 channels to 3, or the size is missing or cannot be cut.
    """

    model_cpu_offload_seq = "unet"
    _callback_tensor_inputs: ClassVar = ["latents"]
    sources = read_sources(__file__)

    def __init__(
        self,
        unet: UNet2DModel,
        scheduler: SchedulerMixin,
        height: int | None = None,
        width: int | None = None,
        hidden_half: str = "bottom",
        known_layout: str = "mirrored",
        eyes: Sequence[float] | None = None,
        trained_on: str | None = None,
        distilled_steps: Sequence[int] | None = None,
        trained_noise: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        in_channels, out_channels = unet.config.in_channels, unet.config.out_channels
        if (in_channels, out_channels) != (6, 3):
            raise ValueError(
                f"unet maps {in_channels} channels to {out_channels}; it must map 6 to 3, noisy and known half to a "
                "half; if it was trained on whole images, load it with FacePriorPipeline"
            )
        half_size(height, width, hidden_half)  # type: ignore[arg-type]
        if known_layout not in KNOWN_LAYOUTS:
            raise ValueError(f"known_layout is {known_layout!r}; it must be one of {', '.join(KNOWN_LAYOUTS)}")
        check_weights(unet)
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(
            height=height,
            width=width,
            hidden_half=hidden_half,
            known_layout=known_layout,
            eyes=None if eyes is None else list(eyes),
            trained_on=trained_on,
            distilled_steps=None if distilled_steps is None else list(distilled_steps),
            trained_noise=dict(trained_noise or noise_schedule(scheduler)),
        )

    @property
    def half_size(self) -> tuple[int, int]:
        """Height and width in pixels of each half, as it is in the image."""
        return half_size(self.config.height, self.config.width, self.config.hidden_half)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one completion's noise, in canonical orientation."""
        size = canonical_size(self.config.height, self.config.width, self.config.hidden_half)
        return (self.unet.config.out_channels, *size)

    @property
    def num_timesteps(self) -> int:
        """Steps that the scheduler takes per completion in the last call, at least `num_inference_steps`."""
        return self._num_timesteps

    @torch.no_grad()
    def __call__(
        self,
        top_half: Picture | Sequence[Picture],
        num_completions: int = 1,
        num_inference_steps: int = 50,
        generator: Generators = None,
        eta: float | None = None,
        latents: torch.Tensor | None = None,
        batch_size: int | None = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> HalfFaceOutput:
        """Completes each given half.

        Args:
            top_half: The known half, whichever it is for this model, or a list or batch of them: PIL of any size
                (resized), NumPy (H, W, 3) uint8 or float in [0, 1], torch (3, H, W) in [0, 1]. Its pixels are returned
                in `images` bit for bit.
            num_completions: Completions per half.
            num_inference_steps: Denoising steps, at most the T the model was trained with.
            generator: One, one per half, or one per completion; used as by `randn_tensor`, so that it gives the same
                images as `latents` drawn from it. A completion does not depend on the batch it is computed in.
            eta: Ratio of fresh noise per step, in [0, 1], for schedulers that take it (DDIM; Song et al. 2021,
                equation 16).
            latents: Standard normal noise to start from, (halves * num_completions, *`latent_shape`).
            batch_size: Completions computed at once; None computes all at once.
            output_type: `pil`, `np` in [0, 1], `pt` in [0, 1], or `latent`: the hidden half as a tensor in [-1, 1].
            return_dict: Return a `HalfFaceOutput` instead of a tuple.
            callback_on_step_end: Called after each step as `callback(pipe, step, timestep, tensors)`; may return
                tensors to continue with.
            callback_on_step_end_tensor_inputs: Tensors passed to the callback: `latents`.

        Returns:
            `HalfFaceOutput`, or with `return_dict=False` the tuple (images, hidden_halves).

        Raises:
            ValueError: If an argument is out of range, does not fit the model, or cannot be used by the scheduler; or
                if the result is not finite.
        """
        given = self.preprocess(top_half)
        total, device = len(given) * num_completions, self._execution_device
        check_call(self, num_completions, num_inference_steps, eta, batch_size, output_type)
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(f"callback_on_step_end_tensor_inputs has {sorted(unknown)}; it may contain 'latents'")
        shape = (total, *self.latent_shape)
        latents, generators = initial_noise(generator, len(given), shape, latents, device)
        known = torch.stack([to_canonical(to_signed(half), self.config.hidden_half).float() for half in given])
        known = known.repeat_interleave(num_completions, dim=0).to(device)

        def take_step(generators: Any, scheduler: Any, i: int, prediction: Any, latents: torch.Tensor) -> torch.Tensor:
            latents = step(scheduler, i, prediction, latents, eta, generators)
            bar.update()
            if callback_on_step_end is None:
                return latents
            tensors = {"latents": latents} if "latents" in callback_on_step_end_tensor_inputs else {}
            return (callback_on_step_end(self, i, scheduler.timesteps[i], tensors) or {}).get("latents", latents)

        self._num_timesteps = len(prepare_scheduler(self.scheduler, num_inference_steps, device).timesteps)
        chunks, hidden = torch.arange(total).split(batch_size or total), []
        with self.progress_bar(total=len(chunks) * self._num_timesteps) as bar:
            for chunk in chunks:
                own = prepare_scheduler(self.scheduler, num_inference_steps, device)
                seeded_step = functools.partial(take_step, [generators[i] for i in chunk.tolist()])
                hidden.append(self.denoise(own, known[chunk], latents[chunk], seeded_step))
        self.maybe_free_model_hooks()
        result = self.postprocess(given, torch.cat(hidden).cpu(), num_completions, output_type)
        return result if return_dict else (result.images, result.hidden_halves)  # type: ignore[return-value]

    def preprocess(self, top_half: Picture | Sequence[Picture]) -> list[torch.Tensor]:
        """Every given half as (3, h, w), uint8 or floating point in [0, 1]."""
        one = not isinstance(top_half, list | tuple) and getattr(top_half, "ndim", 3) == 3
        halves: Sequence[Any] = [top_half] if one else top_half  # type: ignore[assignment]
        if len(halves) == 0:
            raise ValueError("top_half is empty; give at least one half")
        shape, complete = (self.unet.config.out_channels, *self.half_size), (self.config.height, self.config.width)
        return [read_image(half, shape, "top_half", complete) for half in halves]

    def denoise(
        self, scheduler: SchedulerMixin, known: torch.Tensor, latents: torch.Tensor, take_step: Callable[..., Any]
    ) -> torch.Tensor:
        """Reverse process (Ho et al. 2020, algorithm 2) of one batch; the hidden halves in canonical orientation."""
        latents = latents * scheduler.init_noise_sigma
        for i, t in enumerate(scheduler.timesteps):
            noisy = scheduler.scale_model_input(latents, t).to(self.unet.dtype)
            prediction = predict(self.unet, noisy, known.to(noisy.dtype), t, self.config.known_layout)
            latents = take_step(scheduler, i, prediction.to(latents.dtype), latents)
        return latents

    def postprocess(
        self, given: list[torch.Tensor], hidden: torch.Tensor, num_completions: int, output_type: OutputType
    ) -> HalfFaceOutput:
        """Joins the given halves with the generated ones, (N, 3, h, w) in [-1, 1] and canonical orientation."""
        half, hidden = self.config.hidden_half, check_finite(hidden, self.scheduler).clamp(-1, 1)
        if output_type == "latent":
            latent = from_canonical(hidden, half)
            return HalfFaceOutput(images=latent, hidden_halves=latent)
        unit = (hidden + 1) / 2
        known = torch.stack([to_canonical(to_unit(each), half) for each in given])
        images = join(known.repeat_interleave(num_completions, 0), unit, half)
        return HalfFaceOutput(*(postprocess(each, output_type) for each in (images, from_canonical(unit, half))))
