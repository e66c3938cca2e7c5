"""What the words of a command line stand for: models, data, photos, folders, sizes; each checked with a clear line."""

import argparse
import dataclasses
import os
from pathlib import Path
from typing import BinaryIO

import PIL.Image
import PIL.ImageOps
import torch
from huggingface_hub.errors import RepositoryNotFoundError

from ..config.files import from_yaml
from ..config.schema import DataConfig
from ..diffusion.networks import build_network
from ..diffusion.samplers import training_scheduler
from ..remote_code.image_io import to_rgb, upright
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from ..run_folder.checkpoints import load_checkpoint
from ..run_folder.log import CONFIG_FILE

LARGEST_SIDE = 4096


def load_pipeline(model: str) -> HalfFaceInpaintPipeline:
    """A model from a run folder, one of its checkpoints or the Hub, on the GPU if there is one.

    Args:
        model: Run folder, RUN/checkpoints/step-N, or Hub id.

    Returns:
        The pipeline.

    Raises:
        ValueError: If the folder is not a model, or the Hub does not give one.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if Path(model).parent.name == "checkpoints" and Path(model).is_dir():
        return load_checkpoint_pipeline(Path(model)).to(device)
    if Path(model).exists() and not Path(model, "model_index.json").is_file():
        raise ValueError(f"--model is {model!r}; it must be a run folder with model_index.json in it, or a Hub id")
    try:
        pipe = HalfFaceInpaintPipeline.from_pretrained(model)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        if Path(model).exists():
            raise ValueError(f"--model is {model!r}; the folder could not be loaded: {error}") from error
        cause = error.__cause__ or error  # around it diffusers speaks of its cache and of a stack trace
        why = "it has none of this name that you may read" if isinstance(cause, RepositoryNotFoundError) else cause
        raise ValueError(
            f"--model is {model!r}; it is no run folder here and could not be loaded from the Hub: {why}"
        ) from error
    return pipe.to(device)


def add_speed(parser: argparse.ArgumentParser) -> None:
    """Adds --speed, which `prepare_for_sampling` takes."""
    parser.add_argument(
        "--speed",
        default="auto",
        metavar="auto|safe",
        help="auto takes bfloat16 where the machine multiplies it; safe leaves the weights as saved (default auto)",
    )


def output_folder(name: str) -> Path:
    """The folder of --out, checked and not yet made."""
    out = Path(name)
    there = next((place for place in (out, *out.absolute().parents) if place.exists()), Path("/"))
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"--out is {name!r}; it must be a folder, and {there} is none that can be written to")
    return out


def open_photo(
    file: str | BinaryIO, crop: tuple[int, int, int, int] | None, formats: tuple[str, ...] | None = None
) -> PIL.Image.Image:
    """A photo as upright RGB.

    Args:
        file: Its path, or the file opened in binary mode.
        crop: Left, top, right and bottom in pixels of the upright photo; none keeps all of it.
        formats: Names of the formats that may be decoded; none allows all that Pillow knows.

    Returns:
        A new RGB picture.

    Raises:
        ValueError: If it is no picture that can be read, or the crop reaches outside.
    """
    try:
        with PIL.Image.open(file, formats=formats) as photo:
            picture = to_rgb(upright(photo))
    except Exception as error:  # decoders raise anything from SyntaxError to struct.error on a broken file
        raise ValueError(f"PHOTO is {file!r}; it must be a picture that can be read: {error}") from error
    if crop is None:
        return picture
    left, top, right, bottom = crop
    if not (0 <= left < right <= picture.width and 0 <= top < bottom <= picture.height):
        raise ValueError(f"--crop is {crop}; it must lie inside {file}, which is {picture.width}x{picture.height}")
    return picture.crop(crop)


def crop_box(text: str) -> tuple[int, int, int, int]:
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--crop is {text!r}; it must be LEFT,TOP,RIGHT,BOTTOM in pixels") from None
    return left, top, right, bottom


def size_of(text: str) -> tuple[int, int]:
    try:
        height, width = (int(part) for part in text.split("x"))
    except ValueError:
        raise ValueError(f"--size is {text!r}; it must be HEIGHTxWIDTH, for example 112x88") from None
    if max(height, width) > LARGEST_SIDE:
        raise ValueError(f"--size is {text!r}; each side must be at most {LARGEST_SIDE}")
    return height, width


def evaluation_data(name: str | None, model: str, pipe: HalfFaceInpaintPipeline) -> DataConfig:
    """The images a model is measured on.

    Args:
        name: `procedural`, a folder of photos, or none for the data the model was trained on.
        model: Run folder, checkpoint or Hub id.
        pipe: The model; images take its size.

    Returns:
        Where the images come from.

    Raises:
        ValueError: If there is no such folder, or none is named and the model does not say what it was trained on.
    """
    trained_on = training_data(model)
    size = {"height": pipe.config.height, "width": pipe.config.width}
    if name == "procedural":
        return DataConfig(seed=trained_on.seed if trained_on else 0, **size)
    if name is not None and not Path(name).is_dir():
        raise ValueError(f"--data is {name!r}; it must be `procedural` or a folder of photos")
    if name is not None and (trained_on is None or name != trained_on.path):
        return DataConfig(source="imagefolder", path=name, holdout=1.0, on_bad_image="skip", **size)
    if trained_on is None:
        raise ValueError(f"--data is not given and {model} holds no {CONFIG_FILE}; say what to evaluate on")
    return dataclasses.replace(trained_on, **size)


def training_data(model: str) -> DataConfig | None:
    """What a run or checkpoint here was trained on; none for a model of the Hub, which does not say."""
    folders = (Path(model), Path(model).parent.parent)
    config = next((folder / CONFIG_FILE for folder in folders if (folder / CONFIG_FILE).is_file()), None)
    return from_yaml(config).data if config is not None and Path(model).is_dir() else None


def load_checkpoint_pipeline(checkpoint: Path) -> HalfFaceInpaintPipeline:
    """The model as it was at a checkpoint, with averaged weights where the run keeps them.

    Args:
        checkpoint: RUN/checkpoints/step-N.

    Returns:
        The pipeline, on the CPU.

    Raises:
        ValueError: If the checkpoint is damaged, the run has no configuration, or its model completes no half.
    """
    written = checkpoint.parent.parent / CONFIG_FILE
    if not written.is_file():
        raise ValueError(f"{checkpoint} is no checkpoint of a run; {written} is missing")
    loaded, config = load_checkpoint(checkpoint), from_yaml(written)
    if config.model.hidden_half == "all":
        raise ValueError(f"{checkpoint} draws whole images and completes no half: its model.hidden_half is 'all'")
    steps = config.noise.num_train_timesteps
    network = build_network(config.model, config.data.height, config.data.width, num_train_timesteps=steps)
    network.load_state_dict({**loaded.network, **loaded.average})
    scheduler = training_scheduler(config.noise, config.objective.prediction_type)
    height, width, model = config.data.height, config.data.width, config.model
    return HalfFaceInpaintPipeline(network.eval(), scheduler, height, width, model.hidden_half, model.known_layout)
