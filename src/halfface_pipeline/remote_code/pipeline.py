"""`HalfFaceInpaintPipeline`: half of a face in, complete faces out. Saved, with its siblings, in every model."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline, SchedulerMixin, UNet2DModel
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

if __name__ == "diffusers_modules.local.pipeline":
    # diffusers gives the code of every local model these module names: forget what another model imported.
    for _name in [name for name in sys.modules if name.startswith("diffusers_modules.local.")]:
        del sys.modules[_name]

from .generators import Generators, generator_groups, step_generators
from .halves import (
    canonical_size,
    check_known_layout,
    from_canonical,
    half_size,
    join,
    predict,
    size_multiple,
    to_canonical,
)
from .image_io import OutputType, Picture, postprocess, preprocess, to_signed, to_uint8, to_unit
from .model_files import ModelFiles, check_weights, read_sources
from .noise_levels import check_call, prepare_scheduler, step_arguments, use_next_timestep

SOURCES = read_sources(__file__)


@dataclass
class HalfFaceOutput(BaseOutput):
    """Completed faces; completions of one input are consecutive, in the order of the inputs.

    Args:
        images: Complete faces: a list of PIL images, an array (N, H, W, 3) or a tensor (N, 3, H, W) in [0, 1]. With
            `output_type="latent"` the same as `hidden_halves`.
        hidden_halves: The generated halves alone, in the same form; with `output_type="latent"` a tensor (N, 3, h, w)
            in [-1, 1].
    """

    images: Any
    hidden_halves: Any


class HalfFaceInpaintPipeline(ModelFiles, DiffusionPipeline):
    """Generates the hidden half of a face by conditional diffusion (Ho et al. 2020; Saharia et al. 2022).

    The scheduler can be replaced by any diffusers scheduler that works on the trained noise levels:
    `pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)`. Each call works on its own copy
    of the scheduler, so that threads can share a pipeline.

    Args:
        unet: A `UNet2DModel` or `ReportNetwork` from 2C channels (noisy hidden half, clean known half) to C channels.
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

    Raises:
        ValueError: If the network does not map 2C channels to C, or the size is missing or cannot be cut.
    """

    model_cpu_offload_seq = "unet"
    _callback_tensor_inputs: ClassVar = ["latents"]
    sources = SOURCES

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
    ) -> None:
        super().__init__()
        in_channels, out_channels = unet.config.in_channels, unet.config.out_channels
        if in_channels == out_channels:
            raise ValueError(
                f"unet maps {in_channels} channels to {out_channels}; it generates complete images unconditionally: "
                "load it with FacePriorPipeline or diffusers' DDPMPipeline"
            )
        if in_channels != 2 * out_channels:
            raise ValueError(
                f"unet maps {in_channels} channels to {out_channels}; "
                "it must have twice as many inputs as outputs: noisy hidden half and known half"
            )
        for name, value in (("height", height), ("width", width)):
            if value is None:
                raise ValueError(f"{name} is None; it must be the {name} of complete images, as in pipe.config.{name}")
        half_size(height, width, hidden_half)  # type: ignore[arg-type]
        check_known_layout(known_layout)
        check_weights(unet)
        self.register_modules(unet=unet, scheduler=scheduler)
        self._trained = dict(scheduler.config)  # a scheduler put in its place later must work on the same noise levels
        self.register_to_config(height=height, width=width, hidden_half=hidden_half, known_layout=known_layout)
        self.register_to_config(eyes=None if eyes is None else list(eyes), trained_on=trained_on)
        self.register_to_config(distilled_steps=None if distilled_steps is None else list(distilled_steps))

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
        total = len(given) * num_completions
        check_call(self.scheduler, num_completions, num_inference_steps, eta, batch_size, output_type)
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(f"callback_on_step_end_tensor_inputs has {sorted(unknown)}; it may contain 'latents'")
        device = self._execution_device
        scheduler = prepare_scheduler(
            self.scheduler, num_inference_steps, device, False, self._trained, self.config.distilled_steps
        )
        groups = generator_groups(generator, len(given), num_completions)
        latents = self.prepare_latents(total, groups, latents)
        generators = step_generators(groups, total)
        known = torch.stack([to_canonical(to_signed(half), self.config.hidden_half).float() for half in given])
        known = known.repeat_interleave(num_completions, dim=0).to(device)

        self._interrupt, self._num_timesteps = False, len(scheduler.timesteps)
        chunks = torch.arange(total).split(batch_size or total)
        hidden = []
        with self.progress_bar(total=len(chunks) * len(scheduler.timesteps)) as bar:
            for chunk in chunks:
                own = prepare_scheduler(self.scheduler, num_inference_steps, device, checked=True)
                chunk_generators = [generators[i] for i in chunk.tolist()]
                callback = (callback_on_step_end, callback_on_step_end_tensor_inputs)
                hidden.append(self.denoise(own, known[chunk], latents[chunk], chunk_generators, eta, callback, bar))
        self.maybe_free_model_hooks()
        result = self.postprocess(given, torch.cat(hidden).cpu(), num_completions, output_type)
        return result if return_dict else (result.images, result.hidden_halves)  # type: ignore[return-value]

    def preprocess(self, top_half: Picture | Sequence[Picture]) -> list[torch.Tensor]:
        """Every given half as (3, h, w), uint8 or floating point in [0, 1]."""
        one = not isinstance(top_half, list | tuple) and getattr(top_half, "ndim", 3) == 3
        halves: Sequence[Any] = [top_half] if one else top_half  # type: ignore[assignment]
        if len(halves) == 0:
            raise ValueError("top_half is empty; give at least one half")
        size = (self.config.height, self.config.width)
        return [preprocess(half, *self.half_size, size) for half in halves]

    def prepare_latents(
        self, total: int, groups: Sequence[torch.Generator | None], latents: torch.Tensor | None
    ) -> torch.Tensor:
        """Initial noise (total, *latent_shape), consecutive completions from each generator."""
        device, shape = self._execution_device, (total, *self.latent_shape)
        if latents is None:
            each = (total // len(groups), *self.latent_shape)
            latents = torch.cat([randn_tensor(each, generator=source, device=device) for source in groups])
        if tuple(latents.shape) != shape:
            raise ValueError(f"latents has shape {tuple(latents.shape)}; it must be {shape}")
        return latents.to(device, torch.float32)

    def denoise(
        self,
        scheduler: SchedulerMixin,
        known: torch.Tensor,
        latents: torch.Tensor,
        generators: list[torch.Generator],
        eta: float | None,
        callback: tuple[Callable[..., dict[str, Any]] | None, Sequence[str]],
        bar: Any,
    ) -> torch.Tensor:
        """Reverse process (Ho et al. 2020, algorithm 2) of one batch; the hidden halves in canonical orientation."""
        on_step_end, callback_inputs = callback
        arguments = step_arguments(scheduler, eta, generators)
        multiple = size_multiple(self.unet)

        latents = latents * scheduler.init_noise_sigma
        for i, t in enumerate(scheduler.timesteps):
            if self._interrupt:
                break
            noisy = scheduler.scale_model_input(latents, t).to(self.unet.dtype)
            prediction = predict(self.unet, noisy, known.to(noisy.dtype), t, self.config.known_layout, multiple)
            use_next_timestep(scheduler, i)
            latents = scheduler.step(prediction.to(latents.dtype), t, latents, **arguments, return_dict=False)[0]
            if on_step_end is not None:
                tensors = {"latents": latents} if "latents" in callback_inputs else {}
                latents = (on_step_end(self, i, t, tensors) or {}).get("latents", latents)
            bar.update()
        return latents

    def postprocess(
        self, given: list[torch.Tensor], hidden: torch.Tensor, num_completions: int, output_type: OutputType
    ) -> HalfFaceOutput:
        """Joins the given halves with the generated ones, (N, 3, h, w) in [-1, 1] and canonical orientation."""
        if not bool(torch.isfinite(hidden).all()):
            name = type(self.scheduler).__name__
            raise ValueError(
                f"the completion has values that are not finite; check the weights of unet, or use another {name}"
            )
        half, hidden = self.config.hidden_half, hidden.clamp(-1, 1)
        if output_type == "latent":
            latent = from_canonical(hidden, half)
            return HalfFaceOutput(images=latent, hidden_halves=latent)
        unit = (hidden + 1) / 2
        known = [to_canonical(given[i // num_completions], half) for i in range(len(unit))]
        if output_type == "pil":
            images = [join(to_uint8(a), to_uint8(b), half) for a, b in zip(known, unit, strict=True)]
        else:
            images = [join(to_unit(a), b, half) for a, b in zip(known, unit, strict=True)]
        halves = list(from_canonical(unit, half))
        return HalfFaceOutput(images=postprocess(images, output_type), hidden_halves=postprocess(halves, output_type))
