"""`HalfFaceInpaintPipeline`: half of a face in, whole faces out. This file and its siblings ship with every model."""

import inspect
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

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
from .hub_client import push_pipeline
from .image_io import OUTPUT_ENCODINGS, Encoding, Picture, encode, read_half, to_output
from .seeds import completion_seeds
from .shipping import of_package, ship_code, ship_components


@dataclass
class HalfFaceOutput(BaseOutput):
    """Completed faces; completions of one input stand together, in the order of the inputs.

    Args:
        images: Whole faces: a list of PIL images, an array (N, H, W, 3) in [0, 1] or a tensor (N, 3, H, W) in [-1, 1].
        hidden_halves: The generated halves alone, in the same form.
    """

    images: Any
    hidden_halves: Any


class HalfFaceInpaintPipeline(DiffusionPipeline):
    """Draws the hidden half of a face by conditional diffusion (Ho et al. 2020; Saharia et al. 2022).

    Any scheduler of diffusers that works on the trained noise levels can take the place of the saved one:
    `pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)`.

    Args:
        unet: A `UNet2DModel` or `ReportNetwork` from 2C channels (noisy hidden half, clean known half) to C channels.
        scheduler: The noise schedule the network was trained under, or a sampler with its configuration.
        height: Height of whole images in pixels.
        width: Width of whole images in pixels.
        hidden_half: The half the model draws: `bottom`, `top`, `left` or `right`.
        known_layout: How the known half lies beside the hidden one: `stacked` or `mirrored`.

    Raises:
        ValueError: If the network does not map 2C channels to C, or the size cannot be cut.
    """

    model_cpu_offload_seq = "unet"
    _callback_tensor_inputs: ClassVar = ["latents"]

    def __init__(
        self,
        unet: ModelMixin,
        scheduler: SchedulerMixin,
        height: int = 108,
        width: int = 88,
        hidden_half: str = "bottom",
        known_layout: str = "mirrored",
    ) -> None:
        super().__init__()
        half_size(height, width, hidden_half)
        check_known_layout(known_layout)
        taken, given = unet.config.in_channels, unet.config.out_channels
        if taken == given:
            raise ValueError(
                f"unet maps {taken} channels to {given}; the model draws whole images unconditionally and completes "
                "no half: load it with diffusers' DDPMPipeline"
            )
        if taken != 2 * given:
            raise ValueError(
                f"unet maps {taken} channels to {given}; "
                "it must take twice the channels it gives: noisy hidden half and known half"
            )
        for weight in (*unet.parameters(), *unet.buffers()):
            # Weights mapped from a file can lie unaligned, and the CPU's kernels then round in another way.
            if weight.device.type == "cpu" and weight.data_ptr() % 64:
                weight.data = weight.data.clone()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(height=height, width=width, hidden_half=hidden_half, known_layout=known_layout)

    @property
    def half_size(self) -> tuple[int, int]:
        """Height and width in pixels of each half, as it stands in the image."""
        return half_size(self.config.height, self.config.width, self.config.hidden_half)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one completion's noise, in the frame with the hidden half below."""
        size = canonical_size(self.config.height, self.config.width, self.config.hidden_half)
        return (self.unet.config.out_channels, *size)

    @torch.no_grad()
    def __call__(
        self,
        top_half: Picture | Sequence[Picture],
        num_completions: int = 1,
        num_inference_steps: int = 50,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        eta: float | None = None,
        latents: torch.Tensor | None = None,
        batch_size: int | None = None,
        output_type: Literal["pil", "np", "pt"] = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> HalfFaceOutput:
        """Completes each given half.

        Args:
            top_half: The visible half, whichever it is for this model, or a list or batch of them: PIL of any size
                (resized), NumPy (H, W, 3) uint8 or float in [0, 1], torch (3, H, W) in [-1, 1]. Its pixels come
                back in `images` bit for bit.
            num_completions: Completions of each half.
            num_inference_steps: Denoising steps, at most the T the model was trained with.
            generator: Makes the draw repeatable: one, one an input, or one a completion. A completion depends on its
                own draw alone, not on the batch it is computed in.
            eta: Share of fresh noise at each step, for schedulers that take it (DDIM; Song et al. 2021, equation 16).
            latents: Standard normal noise to start from, (inputs * num_completions, *`latent_shape`).
            batch_size: Completions computed at once; none computes all at once.
            output_type: `pil`, `np` in [0, 1] or `pt` in [-1, 1].
            return_dict: Give a `HalfFaceOutput` and not a tuple.
            callback_on_step_end: Called after each step as `callback(pipe, step, timestep, tensors)`; may return
                tensors to go on with.
            callback_on_step_end_tensor_inputs: What it is shown: `latents`.

        Returns:
            `HalfFaceOutput`, or with `return_dict=False` the tuple (images, hidden_halves).

        Raises:
            ValueError: If an argument is out of range, does not fit the model, or cannot be used by the scheduler.
        """
        given = self._read_halves(top_half)
        total = len(given) * num_completions
        self._check_call(total, num_completions, num_inference_steps, eta, latents, batch_size, output_type)
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(f"callback_on_step_end_tensor_inputs has {sorted(unknown)}; it may hold 'latents'")

        seeds = completion_seeds(generator, len(given), num_completions)
        known = torch.stack([to_canonical(encode(half, encoding, "signed"), self._hidden) for half, encoding in given])
        known = known.to(self._execution_device, torch.float32).repeat_interleave(num_completions, dim=0)

        chunks = torch.arange(total).split(batch_size or total)
        hidden: list[torch.Tensor] = []
        self._interrupt = False
        self.scheduler.set_timesteps(num_inference_steps, device=self._execution_device)
        with self.progress_bar(total=len(chunks) * len(self.scheduler.timesteps)) as bar:
            for chunk in chunks:
                generators = [torch.Generator().manual_seed(seeds[i]) for i in chunk.tolist()]
                noise = latents[chunk] if latents is not None else None
                hidden.append(
                    self._denoise(
                        known[chunk],
                        noise,
                        num_inference_steps,
                        generators,
                        eta,
                        bar,
                        callback_on_step_end,
                        callback_on_step_end_tensor_inputs,
                    )
                )
        self.maybe_free_model_hooks()

        encoding = OUTPUT_ENCODINGS[output_type]
        images, halves = [], []
        for index, half in enumerate(torch.cat(hidden).clamp(-1, 1).cpu()):
            half = encode(half, "signed", encoding)
            visible, visible_encoding = given[index // num_completions]
            images.append(
                join(to_canonical(encode(visible, visible_encoding, encoding), self._hidden), half, self._hidden)
            )
            halves.append(from_canonical(half, self._hidden))
        result = HalfFaceOutput(images=to_output(images, output_type), hidden_halves=to_output(halves, output_type))
        return result if return_dict else (result.images, result.hidden_halves)  # type: ignore[return-value]

    def _denoise(
        self,
        known: torch.Tensor,
        noise: torch.Tensor | None,
        num_inference_steps: int,
        generators: list[torch.Generator],
        eta: float | None,
        bar: Any,
        callback: Callable[..., dict[str, Any]] | None,
        callback_inputs: Sequence[str],
    ) -> torch.Tensor:
        """Reverse process (Ho et al. 2020, algorithm 2) for one batch; the hidden halves in the turned frame."""
        device = known.device
        if noise is None:
            noise = randn_tensor((len(known), *self.latent_shape), generator=generators, device=device)
        if hasattr(self.scheduler, "noise_sampler_seed"):
            self.scheduler.noise_sampler_seed = [generator.initial_seed() for generator in generators]
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        step_arguments: dict[str, Any] = {} if eta is None else {"eta": eta}
        if _takes(self.scheduler.step, "generator"):
            step_arguments["generator"] = generators
        multiple = size_multiple(self.unet)

        latents = noise.to(device, torch.float32) * self.scheduler.init_noise_sigma
        for i, t in enumerate(self.scheduler.timesteps):
            if self._interrupt:
                break
            noisy = self.scheduler.scale_model_input(latents, t).to(self.unet.dtype)
            prediction = predict(self.unet, noisy, known.to(noisy.dtype), t, self.config.known_layout, multiple).to(
                latents.dtype
            )
            latents = self.scheduler.step(prediction, t, latents, **step_arguments, return_dict=False)[0]
            if callback is not None:
                shown = {"latents": latents} if "latents" in callback_inputs else {}
                latents = (callback(self, i, t, shown) or {}).get("latents", latents)
            bar.update()
        return latents

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """As diffusers' own; components of ours come from beside this class, not from the model's own code."""
        loaded = super().load_config(*args, **kwargs)
        of_package(loaded[0] if isinstance(loaded, tuple) else loaded, __package__ or "")
        return loaded

    def save_pretrained(
        self, save_directory: str | Path, *args: Any, push_to_hub: bool = False, **kwargs: Any
    ) -> str | None:
        """Saves the model with the code it needs; arguments as in `DiffusionPipeline.save_pretrained`.

        With `push_to_hub` it is pushed too, to `repo_id`, with the other arguments of that method.
        """
        if push_to_hub:
            self.save_pretrained(save_directory, *args)
            return self.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        ship_code(save_directory)
        super().save_pretrained(save_directory, *args, **kwargs)
        ship_components(self, save_directory)
        return None

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
        revision: str | None = None,
        **save_arguments: Any,
    ) -> str:
        """Puts the model on the Hub in one commit: weights, code, and the card of where it was loaded from.

        Args:
            repo_id: `user/name`, made if it is not there; without a user, the token's.
            commit_message: Of the commit.
            private: Whether nobody else may see the repository.
            token: Of the Hub; none takes HF_TOKEN or what `hf auth login` stored.
            create_pr: Open a pull request.
            revision: Branch to commit to, made if it is not there.
            **save_arguments: Of `save_pretrained`.

        Returns:
            The address of the commit.

        Raises:
            ValueError: If the Hub did not take all of it; the message says why and what is missing.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, **save_arguments)
            return push_pipeline(self, folder, repo_id, commit_message, private, token, revision, create_pr)

    @property
    def _hidden(self) -> str:
        return self.config.hidden_half

    def _check_call(
        self,
        total: int,
        num_completions: int,
        num_inference_steps: int,
        eta: float | None,
        latents: torch.Tensor | None,
        batch_size: int | None,
        output_type: str,
    ) -> None:
        if num_completions < 1:
            raise ValueError(f"num_completions is {num_completions}; it must be at least 1")
        most = self.scheduler.config.num_train_timesteps
        if not 1 <= num_inference_steps <= most:
            raise ValueError(f"num_inference_steps is {num_inference_steps}; it must be from 1 to {most}")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        if output_type not in OUTPUT_ENCODINGS:
            raise ValueError(f"output_type is {output_type!r}; it must be one of {', '.join(OUTPUT_ENCODINGS)}")
        name = type(self.scheduler).__name__
        if name.startswith(("EDM", "FlowMatch")):
            raise ValueError(f"scheduler is {name}; it works on other noise levels than the model was trained on")
        spacing = self.scheduler.config.get("timestep_spacing")
        if name == "DDIMScheduler" and spacing != "leading" and most % num_inference_steps:
            # DDIMScheduler.step takes t - T // steps for the timestep before t, which is then another one.
            raise ValueError(f"num_inference_steps is {num_inference_steps}; DDIMScheduler needs a divisor of {most}")
        if eta is not None and not _takes(self.scheduler.step, "eta"):
            raise ValueError(f"eta is {eta}; {name} does not take it: leave it out, or use DDIMScheduler")
        wanted = (total, *self.latent_shape)
        if latents is not None and tuple(latents.shape) != wanted:
            raise ValueError(f"latents has shape {tuple(latents.shape)}; it must be {wanted}")

    def _read_halves(self, top_half: Picture | Sequence[Picture]) -> list[tuple[torch.Tensor, Encoding]]:
        """Every given half as (3, h, w) in its own encoding."""
        one = not isinstance(top_half, list | tuple) and getattr(top_half, "ndim", 3) == 3
        halves: Sequence[Any] = [top_half] if one else top_half  # type: ignore[assignment]
        if len(halves) == 0:
            raise ValueError("top_half is empty; give at least one half")
        return [read_half(half, *self.half_size) for half in halves]


def _takes(function: Callable[..., Any], name: str) -> bool:
    return name in inspect.signature(function).parameters
