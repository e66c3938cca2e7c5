"""`HalfFaceInpaintPipeline`: half of a face in, whole faces out. This file and its siblings ship with every model."""

import inspect
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.dynamic_modules_utils import get_relative_import_files
from diffusers.utils.torch_utils import randn_tensor
from huggingface_hub import HfApi, snapshot_download

if __name__ == "diffusers_modules.local.pipeline":
    # diffusers gives the code of every local model these module names: forget what another model imported.
    for _name in [name for name in sys.modules if name.startswith("diffusers_modules.local.")]:
        del sys.modules[_name]

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
from .image_io import OUTPUT_ENCODINGS, Encoding, Picture, encode, read_half, to_output
from .seeds import completion_seeds

SOURCES = {Path(file).name: Path(file).read_bytes() for file in (__file__, *get_relative_import_files(__file__))}
"""The code saved beside the weights, read now because diffusers replaces these files at the next local model."""
CARD_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s:]+)\)")


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
        missing = [name for name, weight in unet.state_dict().items() if weight.is_meta]
        if missing:
            raise ValueError(f"the weights of unet lack {len(missing)} tensors, the first is {missing[0]!r}")
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
        """As in diffusers; own components come from this class's package, not from the model's own code."""
        loaded = super().load_config(*args, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        if "_class_name" not in config:
            raise ValueError(f"model_index.json of {args[0]} has no _class_name; it is not a saved pipeline")
        for side in ("height", "width"):
            size = config.get(side, 2)
            if not isinstance(size, int) or not 2 <= size <= 16384:
                raise ValueError(f"{side} is {size}; it must be a whole number from 2 to 16384")
        for name, value in config.items():
            module = f"{__package__}.{value[0]}" if isinstance(value, list) else ""
            if module in sys.modules and not module.startswith("diffusers_modules."):
                config[name] = [module, value[1]]
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
        super().save_pretrained(save_directory, *args, **kwargs)
        for name, content in SOURCES.items():
            Path(save_directory, name).write_bytes(content)
        save_component_code(self, save_directory)
        for file in (file for name in self.components for file in Path(save_directory, name).glob("*config.json")):
            values = json.loads(file.read_text())
            if values.pop("_name_or_path", None) is not None:  # a path of this machine
                file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
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
        """Pushes the model in one commit: weights, code, and the card of where it was loaded from.

        Args:
            repo_id: `user/name`, created if it does not exist; without a user, the token's.
            commit_message: Of the commit.
            private: Whether a new repository is private.
            token: Of the Hub; None takes HF_TOKEN or what `hf auth login` stored.
            create_pr: Open a pull request.
            revision: Branch to commit to, created if it does not exist.
            **save_arguments: Of `save_pretrained`.

        Returns:
            The URL of the commit.
        """
        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, **save_arguments)
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if revision is not None:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            if not self._copy_card(Path(folder), repo_id, token) and not api.file_exists(repo_id, "README.md"):
                Path(folder, "README.md").write_text(short_card(repo_id, self.config))
            return api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message or f"Upload {type(self).__name__}",
                revision=revision,
                create_pr=create_pr,
            )

    def _copy_card(self, folder: Path, repo_id: str, token: str | None) -> bool:
        """Copies the card of where the model was loaded from, with the pictures it shows; whether there was one."""
        source = self.config.get("_name_or_path")
        if source is None or source == repo_id:
            return False
        if not Path(source).is_dir():
            source = snapshot_download(source, allow_patterns=["README.md", "*.png"], token=token)
        if not Path(source, "README.md").is_file():
            return False
        card = Path(source, "README.md").read_text()
        (folder / "README.md").write_text(readdress(card, repo_id))
        for name in CARD_PICTURE.findall(card):
            picture = Path(source, name)
            if picture.is_file() and ".." not in picture.parts and not Path(name).is_absolute():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(picture, folder / name)
        return True

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


def save_component_code(pipe: DiffusionPipeline, folder: str | Path) -> None:
    """Copies the code of components that diffusers lacks beside their weights, and names it in model_index.json.

    diffusers executes `unet/report_network.py` for `"unet": ["report_network", "ReportNetwork"]` if
    `trust_remote_code=True`.

    Args:
        pipe: The pipeline.
        folder: Where it has been saved.
    """
    index_file = Path(folder, "model_index.json")
    index = json.loads(index_file.read_text())
    for name, component in pipe.components.items():
        package, _, module = type(component).__module__.rpartition(".")
        if package.startswith("diffusers."):
            continue
        file = Path(inspect.getfile(type(component)))
        for source in (file, *map(Path, get_relative_import_files(file))):
            if source.resolve() != Path(folder, name, source.name).resolve():
                shutil.copyfile(source, Path(folder, name, source.name))
        index[name] = [module, type(component).__name__]
    index_file.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def readdress(card: str, repo_id: str) -> str:
    """A card whose code loads `repo_id` where it loaded what its first `from_pretrained` names."""
    named = re.search(r'from_pretrained\(\s*"([^"]+)"', card)
    if named is None:
        return card
    return re.sub(rf"(?<![\w./-]){re.escape(named[1])}(?![\w./-])", lambda _: repo_id, card)


def short_card(repo_id: str, settings: Mapping[str, Any]) -> str:
    """The card of a model that comes without one."""
    return f"""---
library_name: diffusers
pipeline_tag: image-to-image
tags: [halfface, inpainting, faces, diffusion]
---

# Half-face completion

Completes the {settings["hidden_half"]} half of a {settings["height"]}x{settings["width"]} (height x width) face.

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{repo_id}", custom_pipeline="{repo_id}", trust_remote_code=True)
pipe(known_half, num_completions=8, num_inference_steps=50).images[0]
```

The hidden half is invented. The model identifies nobody and must not be used to identify, verify or track people.
"""
