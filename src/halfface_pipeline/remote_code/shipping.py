"""What a model takes along, so that it runs without this package and shows what it is wherever it goes."""

import inspect
import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SHIPPED_FILES = ("pipeline.py", "halves.py", "image_io.py", "noise_levels.py", "shipping.py", "hub_client.py")
SHIPPED_COMPONENTS = {
    "report_network": ("report_network.py",),
    "respaced_ddpm": ("respaced_ddpm.py", "respacing.py"),
}
"""Modules with components of our own, and the files each needs in the component's folder."""

WEIGHTS = "*.safetensors"
CARD, INDEX = "README.md", "model_index.json"
SHOWN_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s:]+)\)")
RELATIVE_IMPORT = re.compile(r"^from \.(\w+) import", flags=re.MULTILINE)
MACHINE_PATH = re.compile(r"(?<![\w.~:/}\])<>])/(?:[^\s/'\"`<>]+/)+([^\s/'\"`<>]*)")


def ship_code(folder: str | Path) -> None:
    """Copies the pipeline's own files into a model folder."""
    for name in SHIPPED_FILES:
        _copy(Path(__file__).with_name(name), Path(folder, name))


def ship_components(pipe: Any, folder: str | Path) -> None:
    """Makes a saved pipeline load its own components from files beside their weights.

    diffusers looks for `unet/report_network.py` where model_index.json says `"unet": ["report_network", ...]`, and
    executes it under `trust_remote_code=True`.

    Args:
        pipe: The pipeline.
        folder: Where it has been saved.
    """
    index_file = Path(folder, INDEX)
    index = json.loads(index_file.read_text())
    for name, component in pipe.components.items():
        module = type(component).__module__.rpartition(".")[2]
        if module not in SHIPPED_COMPONENTS:
            continue
        for file in SHIPPED_COMPONENTS[module]:
            _copy(Path(inspect.getfile(type(component))).with_name(file), Path(folder, name, file))
        index[name] = [module, type(component).__name__]
    index_file.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def of_package(config: dict[str, Any], package: str) -> None:
    """Names own components of a model_index.json by the modules of a package, where it has imported them.

    diffusers then takes those and not the code in the model folder, which would ask for `trust_remote_code`.

    Args:
        config: What the file holds; changed in place.
        package: Name of the package.
    """
    for name, value in config.items():
        if isinstance(value, list) and value[0] in SHIPPED_COMPONENTS:
            module = f"{package}.{value[0]}"
            config[name] = [module, value[1]] if module in sys.modules else value


def _copy(source: Path, target: Path) -> None:
    if source.resolve() != target.resolve():
        shutil.copyfile(source, target)


def model_files(folder: str | Path) -> dict[str, Path | bytes]:
    """What a saved model consists of: index, components, code.

    Args:
        folder: Where it has been saved.

    Returns:
        Contents by path in the repository; settings without paths of this machine.

    Raises:
        ValueError: If a part is missing, which the message names.
    """
    folder = Path(folder)
    if not (folder / INDEX).is_file():
        raise ValueError(f"{folder.name} is no saved model: {INDEX} is missing")
    index = json.loads((folder / INDEX).read_text())
    components = [name for name, value in index.items() if isinstance(value, list) and value[0] is not None]
    missing = [f"{name}/" for name in components if not (folder / name).is_dir()]
    if (folder / "unet").is_dir() and not any((folder / "unet").glob(WEIGHTS)):
        missing.append(f"unet/{WEIGHTS}")
    for name in components:
        module = index[name][0]
        if module != "diffusers" and not (folder / name / f"{module}.py").is_file():
            missing.append(f"{name}/{module}.py")
    code = _with_imported(folder, "pipeline.py") if index["_class_name"] == "HalfFaceInpaintPipeline" else []
    missing += [name for name in code if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder.name} is not whole: {', '.join(missing)} missing; load it and save it again")
    paths = [folder / INDEX, *(folder / name for name in code)]
    paths += [file for name in components for file in sorted((folder / name).iterdir())]
    return {path.relative_to(folder).as_posix(): content_of(path) for path in paths if path.is_file()}


def _with_imported(folder: Path, name: str) -> list[str]:
    """A file and those beside it that it imports, in the version that lies there."""
    names = [name]
    for each in names:
        text = (folder / each).read_text() if (folder / each).is_file() else ""
        names += [f for f in (f"{m}.py" for m in RELATIVE_IMPORT.findall(text)) if f not in names]
    return names


def content_of(path: Path) -> Path | bytes:
    """A file as it may be shared: settings and tables lose the folders of absolute paths, other files stay."""
    if path.suffix == ".json":
        return (json.dumps(without_folders(json.loads(path.read_text())), indent=1) + "\n").encode()
    if path.suffix == ".md" and path.name != CARD:
        return without_folders(path.read_text()).encode()
    return path


def without_folders(value: Any) -> Any:
    """A value of JSON in which absolute paths are cut down to their last part."""
    if isinstance(value, dict):
        return {key: without_folders(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_folders(each) for each in value]
    if not isinstance(value, str):
        return value
    if value.startswith("/") and "\n" not in value:
        return Path(value).name
    return MACHINE_PATH.sub(lambda match: match[1] or "folder", value)


def card_files(folder: str | Path, repo_id: str, text: str | None = None) -> dict[str, Path | bytes]:
    """The card of a model as a repository shows it, with the pictures it shows.

    Args:
        folder: Where the pictures lie.
        repo_id: Put where the card's code names the model.
        text: The card; none takes the folder's README.md.

    Returns:
        Contents by path in the repository.

    Raises:
        ValueError: If a picture is missing.
    """
    text = Path(folder, CARD).read_text() if text is None else text
    pictures = dict.fromkeys(SHOWN_PICTURE.findall(text))
    missing = [name for name in pictures if not Path(folder, name).is_file()]
    if missing:
        raise ValueError(f"{CARD} shows pictures that are not there: {', '.join(missing)}")
    return {CARD: addressed(text, repo_id).encode(), **{name: Path(folder, name) for name in pictures}}


def addressed(card: str, repo_id: str) -> str:
    """A card whose code loads `repo_id`, in place of what its first `from_pretrained` named."""
    named = re.search(r'from_pretrained\(\s*"([^"]+)"', card)
    if named is None:
        return card
    return re.sub(rf"(?<![\w./-]){re.escape(named[1])}(?![\w./-])", lambda _: repo_id, card)


def plain_card(repo_id: str, settings: Mapping[str, Any]) -> str:
    """A card for a model that comes without one.

    Args:
        repo_id: Where it goes.
        settings: The pipeline's configuration.

    Returns:
        The card.
    """
    return f"""---
library_name: diffusers
pipeline_tag: image-to-image
tags: [halfface, inpainting, faces, diffusion]
---

# Half-face completion

Draws the {settings["hidden_half"]} half of a {settings["height"]}x{settings["width"]} (height x width) face, given the
other one. How it was trained and how well it does is not told here.

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{repo_id}", custom_pipeline="{repo_id}", trust_remote_code=True)
pipe(known_half, num_completions=8, num_inference_steps=50).images[0]
```

The hidden half is invented. The model identifies nobody and must not be used to identify, verify or track people.
"""
