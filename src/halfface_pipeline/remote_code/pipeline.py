"""`HalfFaceInpaintPipeline`: half of a face in, complete faces out. Saved, with its siblings, in every model."""

import inspect
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

import torch
from diffusers import DiffusionPipeline, SchedulerMixin, UNet2DModel
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
from .image_io import OutputType, Picture, postprocess, preprocess, to_signed, to_uint8, to_unit
from .noise_levels import check_eta, prepare_scheduler, step_arguments, use_next_timestep

SOURCES = {Path(file).name: Path(file).read_bytes() for file in (__file__, *get_relative_import_files(__file__))}
"""The code saved beside the weights, read now because diffusers replaces these files at the next local model."""
CARD_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s:]+)\)")

Generators = torch.Generator | Sequence[torch.Generator] | None


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


class HalfFaceInpaintPipeline(DiffusionPipeline):
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

    Raises:
        ValueError: If the network does not map 2C channels to C, or the size is missing or cannot be cut.
    """

    model_cpu_offload_seq = "unet"
    _callback_tensor_inputs: ClassVar = ["latents"]

    def __init__(
        self,
        unet: UNet2DModel,
        scheduler: SchedulerMixin,
        height: int | None = None,
        width: int | None = None,
        hidden_half: str = "bottom",
        known_layout: str = "mirrored",
    ) -> None:
        super().__init__()
        in_channels, out_channels = unet.config.in_channels, unet.config.out_channels
        if in_channels == out_channels:
            raise ValueError(
                f"unet maps {in_channels} channels to {out_channels}; it generates complete images unconditionally: "
                "load it with diffusers' DDPMPipeline"
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
        missing = [name for name, weight in unet.state_dict().items() if weight.is_meta]
        if missing:
            raise ValueError(f"the weights of unet lack {len(missing)} tensors, the first is {missing[0]!r}")
        for weight in (*unet.parameters(), *unet.buffers()):
            # Weights mapped from a file can be unaligned, and CPU kernels then round differently.
            if weight.device.type == "cpu" and weight.data_ptr() % 64:
                weight.data = weight.data.clone()
        self.register_modules(unet=unet, scheduler=scheduler)
        self._trained = dict(scheduler.config)  # a scheduler put in its place later must work on the same noise levels
        self.register_to_config(height=height, width=width, hidden_half=hidden_half, known_layout=known_layout)

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
        self.check_inputs(num_completions, num_inference_steps, eta, batch_size, output_type)
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(f"callback_on_step_end_tensor_inputs has {sorted(unknown)}; it may contain 'latents'")
        device = self._execution_device
        scheduler = prepare_scheduler(self.scheduler, num_inference_steps, device, trained=self._trained)
        groups = _generator_groups(generator, len(given), num_completions)
        latents = self.prepare_latents(total, groups, latents)
        generators = _step_generators(groups, total)
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

    def check_inputs(
        self,
        num_completions: int,
        num_inference_steps: int,
        eta: float | None,
        batch_size: int | None,
        output_type: str,
    ) -> None:
        """Raises ValueError for the first argument of a call that is out of range."""
        if num_completions < 1:
            raise ValueError(f"num_completions is {num_completions}; it must be at least 1")
        most = self.scheduler.config.num_train_timesteps
        if not 1 <= num_inference_steps <= most:
            raise ValueError(f"num_inference_steps is {num_inference_steps}; it must be from 1 to {most}")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        if output_type not in get_args(OutputType):
            raise ValueError(f"output_type is {output_type!r}; it must be one of {', '.join(get_args(OutputType))}")
        check_eta(self.scheduler, eta)

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
        configs = [file for name in self.components for file in Path(save_directory, name).glob("*config.json")]
        for file in (Path(save_directory, "model_index.json"), *configs):
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


def _generator_groups(generator: Generators, inputs: int, num_completions: int) -> list[torch.Generator | None]:
    """The generators of a call: one, one per input, or one per completion.

    Raises:
        ValueError: If `generator` is something else, or a list of another length.
    """
    sources = [generator] if generator is None or isinstance(generator, torch.Generator) else generator
    if not isinstance(sources, list | tuple) or not all(isinstance(g, torch.Generator | None) for g in sources):
        raise ValueError(f"generator is {generator!r}; it must be a torch.Generator, a list of them, or None")
    if sources is generator and len(sources) not in (inputs, inputs * num_completions):
        raise ValueError(
            f"generator is a list of {len(sources)}; it must have one per input ({inputs}) "
            f"or one per completion ({inputs * num_completions})"
        )
    return list(sources)


def _step_generators(groups: list[torch.Generator | None], total: int) -> list[torch.Generator]:
    """One generator per completion for the noise of the steps, so that none depends on the others of its batch."""
    if len(groups) == total and None not in groups and total > 1:
        return groups  # type: ignore[return-value]
    each = total // len(groups)
    seeds = [
        torch.randint(2**63 - 1, (each,), generator=source, device=source.device if source else None).tolist()
        for source in groups
    ]
    return [torch.Generator().manual_seed(seed) for group in seeds for seed in group]


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
