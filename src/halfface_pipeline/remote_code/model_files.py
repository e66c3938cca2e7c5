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
    """What `DiffusionPipeline` does with files, for one with its own code; diffusers refuses two of them in a file."""

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
        folder = Path(save_directory)
        if push_to_hub:
            self.save_pretrained(folder, *args)
            return self.push_to_hub(kwargs.pop("repo_id", folder.name), **kwargs)
        folder.mkdir(parents=True, exist_ok=True)
        super().save_pretrained(folder, *args, **kwargs)  # type: ignore[misc]
        for name, content in self.sources.items():
            (folder / name).write_bytes(content)
        classes = {}
        for name, component in self.components.items():
            package, _, module = type(component).__module__.rpartition(".")
            if not package.startswith("diffusers."):
                # With trust_remote_code, "unet": ["report_network", "ReportNetwork"] runs unet/report_network.py.
                classes[name] = [module, type(component).__name__]
                code = Path(inspect.getfile(type(component))).read_bytes()
                (folder / name / f"{module}.py").write_bytes(code)
        for file in (folder / "model_index.json", *folder.glob("*/*config.json")):
            values = json.loads(file.read_text())
            values.pop("_name_or_path", None)  # a path of this machine
            values |= classes if file.name == "model_index.json" else {}
            file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
        return None

    def push_to_hub(self, repo_id: str, *, private: Any = None, token: str | None = None, **commit: Any) -> str:
        """Pushes the model in one commit: weights, code, and the card of where it was loaded from; returns its URL.

        Takes `commit_message`, `create_pr` and `revision`, a branch that is created if it does not exist.
        """
        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if commit.get("revision") is not None:
                api.create_branch(repo_id, branch=commit["revision"], exist_ok=True)
            self._copy_card(Path(folder), repo_id, api)
            commit = {"commit_message": f"Upload {type(self).__name__}"} | commit
            return api.upload_folder(repo_id=repo_id, folder_path=folder, **commit)

    def _copy_card(self, folder: Path, repo_id: str, api: HfApi) -> None:
        """Copies the card of where the model was loaded from, with the pictures it shows, or writes a short one."""
        source, card = self.config.get("_name_or_path"), None
        short = Path(__file__).with_name(f"{type(self).__name__}.md")  # only the package has it
        if source not in (None, repo_id):
            if not Path(source).is_dir():
                source = snapshot_download(source, allow_patterns=["README.md", "*.png"], token=api.token)
            card = Path(source, "README.md").read_text() if Path(source, "README.md").is_file() else None
        if card is None and not api.file_exists(repo_id, "README.md"):
            card = short.read_text().format(**self.config) if short.is_file() else "---\nlibrary_name: diffusers\n---"
        for name in CARD_PICTURE.findall(card or ""):
            if Path(source, name).is_file() and ".." not in name and not Path(name).is_absolute():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(source, name), folder / name)
        if card is not None:
            (folder / "README.md").write_text(readdress(card, repo_id))


def readdress(card: str, repo_id: str) -> str:
    """A card whose code loads `repo_id` where it loaded what its first `from_pretrained` names."""
    named = re.search(r'from_pretrained\(\s*"([^"]+)"', card)
    if named is None:
        return card
    return re.sub(rf"(?<![\w./-]){re.escape(named[1])}(?![\w./-])", lambda _: repo_id, card)
