"""`FacePriorPipeline`: any hidden part of a face. Saved with every model of whole images."""

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import PIL.Image
import torch
from diffusers import DiffusionPipeline, SchedulerMixin, UNet2DModel
from diffusers.utils import BaseOutput

if __name__ == "diffusers_modules.local.pipeline":
    # diffusers gives the code of every local model these module names: forget what another model imported.
    for _name in [name for name in sys.modules if name.startswith("diffusers_modules.local.")]:
        del sys.modules[_name]

from .halves import check_size, predict
from .image_io import OutputType, Picture, check_finite, postprocess, read_image, to_signed, to_unit, upright
from .masks import Mask, masked_input, read_mask
from .model_files import ModelFiles, check_weights, read_sources
from .noise_levels import Generators, check_call, initial_noise, noise_schedule, prepare_scheduler
from .posterior import DEFAULT_METHOD, METHODS, Diffusion, Draw, check_method, evaluations


@dataclass
class FacePriorOutput(BaseOutput):
    """Completed faces; completions of one input are consecutive, in the order of the inputs.

    Args:
        images: A list of PIL images, an array (N, H, W, C) or a tensor (N, C, H, W) in [0, 1]; with
            `output_type="latent"` a tensor in [-1, 1].
        num_evaluations: Evaluations of the network per completion.
        effective_sample_size: Of `tds`, the smallest over the steps, (N,); None for other methods.
    """

    images: Any
    num_evaluations: int
    effective_sample_size: torch.Tensor | None


class FacePriorPipeline(ModelFiles, DiffusionPipeline):
    """Generates what a mask hides, given the rest, with a diffusion model of whole images (Ho et al. 2020).

    A prior is unconditional and needs a method; a model trained for masks gets the mask with the image and needs none.

    Args:
        unet: A `UNet2DModel` or `ReportNetwork` from C channels to C (a prior), or from C + 1, see `masked_input`.
        scheduler: The noise schedule that the network was trained under, or a sampler with its configuration.
        height: Height of images in pixels; None takes the network's `sample_size`, as in a model of `DDPMPipeline`.
        width: Width of images in pixels; None as for the height.
        trained_noise: The noise schedule that the network was trained under, with which every scheduler is compared;
            None takes that of `scheduler`.

    Raises:
        ValueError: If the network is conditional, or the size is unknown.
    """

    model_cpu_offload_seq = "unet"
    sources = read_sources(__file__)

    def __init__(
        self,
        unet: UNet2DModel,
        scheduler: SchedulerMixin,
        height: int | None = None,
        width: int | None = None,
        trained_noise: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        in_channels, out_channels = unet.config.in_channels, unet.config.out_channels
        if in_channels == 2 * out_channels > 2:
            raise ValueError(
                f"unet maps {in_channels} channels to {out_channels}; it completes one half and needs the other: load "
                "it with HalfFaceInpaintPipeline"
            )
        if in_channels - out_channels not in (0, 1) or out_channels not in (1, 3):
            raise ValueError(
                f"unet maps {in_channels} channels to {out_channels}; it must map 3 or 4 to 3, or 1 or 2 to 1"
            )
        size = unet.config.sample_size
        sides = (size, size) if isinstance(size, int) else size or (None, None)
        height, width = height or sides[0], width or sides[1]
        check_size(height, width)
        check_weights(unet)
        self.register_modules(unet=unet, scheduler=scheduler)
        noise = dict(trained_noise or noise_schedule(scheduler))
        self.register_to_config(height=height, width=width, trained_noise=noise)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return (self.unet.config.out_channels, self.config.height, self.config.width)

    @property
    def trained_for_masks(self) -> bool:
        """Whether the network gets the mask."""
        return bool(self.unet.config.in_channels == self.unet.config.out_channels + 1)

    @torch.no_grad()
    def __call__(
        self,
        image: Picture | Sequence[Picture] | None = None,
        mask: Mask | Sequence[Mask] = "bottom",
        method: str | None = None,
        num_completions: int = 1,
        num_inference_steps: int = 50,
        generator: Generators = None,
        eta: float | None = None,
        latents: torch.Tensor | None = None,
        batch_size: int | None = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        **options: Any,
    ) -> FacePriorOutput:
        """Completes each image where its mask hides it.

        Args:
            image: An image, or a list or batch of them: PIL of any size (resized), NumPy (H, W, C) uint8 or float in
                [0, 1], torch (C, H, W) in [0, 1]. Seen pixels are returned bit for bit; hidden ones are not used. None
                with the mask `all`.
            mask: What is hidden: `bottom`, `top`, `left`, `right`, `all` (unconditional), or PIL, NumPy or torch of
                the image's size, 1 or white where hidden. A list has one per image.
            method: `replace`, `repaint`, `dps`, `pigdm`, `tds` or `daps`, see `posterior.py`; None takes
                `posterior.DEFAULT_METHOD`, or plain sampling where everything is hidden. A model trained for masks
                takes None, which samples it plainly, with any scheduler.
            num_completions: Completions per image; with the mask `all`, images.
            num_inference_steps: Denoising steps, at most the T the model was trained with.
            generator: One, one per image, or one per completion, as in diffusers. A completion does not depend on the
                batch it is computed in.
            eta: Noise of a step, in [0, 1], for `DDIMScheduler` (Song et al. 2021, DDIM, equation 16).
            latents: Standard normal noise to start from, (images * num_completions, *`image_shape`).
            batch_size: Completions computed at once (`tds`: times its particles); None computes all at once.
            output_type: `pil`, `np` in [0, 1], `pt` in [0, 1], or `latent` in [-1, 1].
            return_dict: Return a `FacePriorOutput` instead of a tuple.
            **options: Of the method: `jump_length` and `resamplings` (`repaint`), `guidance_scale` (`dps`),
                `num_particles` (`tds`), `ode_steps` (`daps`).

        Returns:
            `FacePriorOutput`, or with `return_dict=False` the tuple (images, num_evaluations, effective_sample_size).

        Raises:
            ValueError: If an argument is out of range, does not fit the model, the method or the scheduler; or if the
                result is not finite.
        """
        check_call(self, num_completions, num_inference_steps, eta, batch_size, output_type)
        given, hidden = self.preprocess(image, mask)
        method = self.check_method(method, hidden, num_inference_steps, eta, options)
        total, device = len(given) * num_completions, self._execution_device
        scheduler = prepare_scheduler(self.scheduler, num_inference_steps, device)
        shape = (total, *self.image_shape)
        start, generators = initial_noise(generator, len(given), shape, latents, device)
        seen = (
            torch.stack([to_signed(each).float() for each in given]).repeat_interleave(num_completions, 0).to(device)
        )
        hidden = hidden.repeat_interleave(num_completions, 0).to(device)

        generated = hidden | self.trained_for_masks  # nothing is replaced where the network gets it
        chunks = torch.arange(total).split(batch_size or total)
        count = evaluations(method, len(scheduler.timesteps), options)
        draws: list[Draw] = []
        with self.progress_bar(total=total * count) as bar:
            for chunk in chunks:
                own = prepare_scheduler(self.scheduler, num_inference_steps, device)
                network = functools.partial(self.predict, seen=seen[chunk], hidden=hidden[chunk])
                process = Diffusion(network, own, [generators[i] for i in chunk.tolist()], eta, bar.update)
                draws.append(METHODS[method](process, start[chunk], seen[chunk], generated[chunk], **options))
        self.maybe_free_model_hooks()
        clean = torch.where(hidden, torch.cat([draw.clean for draw in draws]), seen).cpu()
        images = self.postprocess(given, hidden.cpu(), clean, num_completions, output_type)
        sizes = [draw.effective_sample_size for draw in draws if draw.effective_sample_size is not None]
        output = FacePriorOutput(images, count, torch.cat(sizes) if sizes else None)
        return output if return_dict else (output.images, count, output.effective_sample_size)  # type: ignore[return-value]

    def predict(
        self, x: torch.Tensor, timestep: torch.Tensor, seen: torch.Tensor, hidden: torch.Tensor
    ) -> torch.Tensor:
        """The network's prediction for noisy images (N, C, H, W) at one timestep, in their dtype."""
        if self.trained_for_masks:
            x = masked_input(x, seen, hidden)
        return predict(self.unet, x.to(self.unet.dtype), None, timestep, "mirrored").to(x.dtype)

    def preprocess(
        self, image: Picture | Sequence[Picture] | None, mask: Mask | Sequence[Mask]
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Every image as (C, H, W), uint8 or floating point in [0, 1], and what is hidden in it, (N, 1, H, W)."""
        channels, height, width = self.image_shape
        one = not isinstance(image, list | tuple) and getattr(image, "ndim", 3) <= 3
        images: Sequence[Any] = [image] if one else image  # type: ignore[assignment]
        if len(images) == 0:
            raise ValueError("image is empty; give at least one image")
        masks: Sequence[Any] = mask if isinstance(mask, list | tuple) else [mask] * len(images)
        if len(masks) != len(images):
            raise ValueError(f"mask is a list of {len(masks)}; it must have one per image, {len(images)}")
        hidden = []
        for each, own in zip(images, masks, strict=True):
            photo = upright(each).size[::-1] if isinstance(each, PIL.Image.Image) else None
            hidden.append(read_mask(own, height, width, photo))
        everything = all(bool(each.all()) for each in hidden)
        if image is None and not everything:
            raise ValueError("image is None; give an image, or mask 'all' to generate whole ones")
        nothing = torch.zeros(channels, height, width)
        given = [
            nothing if each is None else read_image(each, self.image_shape, "image", self.image_shape[1:])
            for each in images
        ]
        return given, torch.stack(hidden)

    def check_method(
        self,
        method: str | None,
        hidden: torch.Tensor,
        num_inference_steps: int,
        eta: float | None,
        options: dict[str, Any],
    ) -> str:
        """The method to use; ValueError if it cannot be used here."""
        for name, value in {"method": method, **options}.items():
            if self.trained_for_masks and value is not None:
                raise ValueError(
                    f"{name} is {value!r}; the model was trained for masks and needs no method: leave it out"
                )
        everything = hidden.flatten(1).all(1)
        if method not in (None, "replace") and bool(everything.any()):
            raise ValueError(
                f"method is {method!r} and mask hides everything; leave out method to sample whole images"
            )
        plain = self.trained_for_masks or bool(everything.all())
        chosen = method or ("replace" if plain else DEFAULT_METHOD)
        check_method(chosen, self.scheduler, num_inference_steps, eta, options)
        return chosen

    def postprocess(
        self,
        given: list[torch.Tensor],
        hidden: torch.Tensor,
        clean: torch.Tensor,
        num_completions: int,
        output_type: OutputType,
    ) -> Any:
        """Completions (N, C, H, W) in [-1, 1] in the form asked for, seen pixels as given."""
        clean = check_finite(clean, self.scheduler).clamp(-1, 1)
        if output_type == "latent":
            return clean
        known = torch.stack([to_unit(each) for each in given]).repeat_interleave(num_completions, 0)
        return postprocess(torch.where(hidden, (clean + 1) / 2, known), output_type)
