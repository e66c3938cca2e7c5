"""Saving and pushing a pipeline with the code that it needs."""

import inspect
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from diffusers.utils.dynamic_modules_utils import get_relative_import_files
from huggingface_hub import HfApi, snapshot_download

CARD_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s:]+)\)")


def read_sources(file: str) -> dict[str, bytes]:
    """The code saved beside the weights: a pipeline's file as `pipeline.py`, and its siblings under their names.

    Read at import, because diffusers replaces these files when it loads the next local model.
    """
    siblings = {Path(each).name: Path(each).read_bytes() for each in get_relative_import_files(file)}
    return {"pipeline.py": Path(file).read_bytes(), **siblings}


def check_weights(network: torch.nn.Module) -> None:
    """Raises ValueError if weights are missing, and aligns those mapped from a file."""
    missing = [name for name, weight in network.state_dict().items() if weight.is_meta]
    if missing:
        raise ValueError(f"the weights of unet lack {len(missing)} tensors, the first is {missing[0]!r}")
    for weight in (*network.parameters(), *network.buffers()):
        # Weights mapped from a file can be unaligned, and CPU kernels then round differently.
        if weight.device.type == "cpu" and weight.data_ptr() % 64:
            weight.data = weight.data.clone()


class ModelFiles:
    """What `DiffusionPipeline` does with files, for a pipeline that brings its code.

    Not a `DiffusionPipeline` itself: diffusers refuses a file in which it finds two of them.

    Attributes:
        sources: Files saved beside the weights, from `read_sources`.
    """

    sources: ClassVar[Mapping[str, bytes]]
    config: Any
    components: Mapping[str, Any]

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> Any:
        """As in diffusers; own components come from this class's package, not from the model's own code."""
        loaded = super().load_config(*args, **kwargs)  # type: ignore[misc]
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
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]
        for name, content in self.sources.items():
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


def save_component_code(pipe: DiffusionPipeline, folder: str | Path) -> None:
    """Copies the code of components that diffusers lacks next to their weights, and names it in model_index.json.

    With `trust_remote_code=True`, `"unet": ["report_network", "ReportNetwork"]` executes `unet/report_network.py`.
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
    prior = "hidden_half" not in settings
    part = "any hidden part" if prior else f"the {settings['hidden_half']} half"
    arguments = 'image, mask="bottom"' if prior else "known_half"
    return f"""---
library_name: diffusers
pipeline_tag: image-to-image
tags: [halfface, inpainting, faces, diffusion]
---

# {"Face" if prior else "Half-face"} completion

Completes {part} of a {settings["height"]}x{settings["width"]} (height x width) face.

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{repo_id}", custom_pipeline="{repo_id}", trust_remote_code=True)
pipe({arguments}, num_completions=8, num_inference_steps=50).images[0]
```

What is hidden is invented. The model identifies nobody and must not be used to identify, verify or track people.
"""
