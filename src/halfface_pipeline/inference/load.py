"""Loads trained pipelines and opens photos."""

from pathlib import Path
from typing import Any, BinaryIO

import PIL.Image
import PIL.ImageOps
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from huggingface_hub.errors import RepositoryNotFoundError

from ..config.files import from_yaml
from ..config.schema import WHOLE, DataConfig, ModelConfig
from ..data.frames import training_frame
from ..diffusion.distillation import saved_scheduler
from ..diffusion.networks import build_network
from ..diffusion.samplers import distilled_steps, training_scheduler
from ..remote_code.image_io import to_rgb, upright
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from ..run_folder.checkpoints import load_checkpoint
from ..run_folder.log import CONFIG_FILE

PACKAGED = {
    "photo": "Apache-2.0, trained on portraits in the public domain and synthetic ones (CC0)",
    "drawn": "Apache-2.0, trained on drawn faces",
    "drawn-distilled": "Apache-2.0, trained on drawn faces, for 4 steps or fewer",
}
"""Models that may be installed with the package, preferred first, and their terms."""
PACKAGED_FOLDER = Path(__file__).parents[1] / "models"


def packaged_model(name: str) -> Path:
    """The folder of a model installed with the package, as `HalfFaceInpaintPipeline.from_pretrained` takes it.

    Args:
        name: `photo`, `drawn` or `drawn-distilled`.

    Returns:
        The folder.

    Raises:
        ValueError: If there is no such model here.
    """
    installed = [each for each in PACKAGED if (PACKAGED_FOLDER / each / "model_index.json").is_file()]
    if name not in installed:
        found = f"it has {' and '.join(installed) or 'none'}"
        raise ValueError(f"{name!r} is not a model of this installation; {found}. Give a run folder or a Hub id")
    return PACKAGED_FOLDER / name


def model_terms(model: str) -> str:
    """The terms of a packaged model; nothing of any other, also of a folder of the same name."""
    return "" if Path(model, "model_index.json").is_file() else PACKAGED.get(model, "")


def default_model() -> str:
    """The name of the packaged model to take where none is given; ValueError if none is installed."""
    for name in PACKAGED:
        if (PACKAGED_FOLDER / name / "model_index.json").is_file():
            return name
    raise ValueError("--model is missing, and no model is installed with the package; give a run folder or a Hub id")


def load_pipeline(model: str) -> HalfFaceInpaintPipeline:
    """Loads a model from a run folder, one of its checkpoints or the Hub, on the GPU if there is one.

    Args:
        model: Name of a model of the package, run folder, RUN/checkpoints/step-N, or Hub id.

    Returns:
        The pipeline.

    Raises:
        ValueError: If the folder is not a model, or the Hub has none of this name.
    """
    if model in PACKAGED and not Path(model, "model_index.json").is_file():
        try:
            model = str(packaged_model(model))
        except ValueError as error:
            raise ValueError(f"--model is {model!r}; {error}") from None
    if Path(model).parent.name == "checkpoints" and Path(model).is_dir():
        return load_checkpoint_pipeline(Path(model)).to("cuda" if torch.cuda.is_available() else "cpu")
    pipe: HalfFaceInpaintPipeline = from_pretrained(HalfFaceInpaintPipeline, model)
    return pipe


def from_pretrained(kind: type[DiffusionPipeline], model: str, option: str = "--model") -> Any:
    """A pipeline of this class from a run folder or the Hub, on the GPU if there is one; errors as `load_pipeline`."""
    if Path(model).exists() and not Path(model, "model_index.json").is_file():
        raise ValueError(f"{option} is {model!r}; it must be a run folder with model_index.json in it, or a Hub id")
    try:
        pipe = kind.from_pretrained(model)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, NotImplementedError) as error:
        if Path(model).exists():
            raise ValueError(f"{option} is {model!r}; the folder could not be loaded: {error}") from error
        cause = error.__cause__ or error  # diffusers wraps it in advice about its cache
        why = "it does not exist or you have no access to it" if isinstance(cause, RepositoryNotFoundError) else cause
        raise ValueError(
            f"{option} is {model!r}; it is not a run folder here and could not be loaded from the Hub: {why}"
        ) from error
    return pipe.to("cuda" if torch.cuda.is_available() else "cpu")


def open_photo(
    file: str | BinaryIO, crop: tuple[int, int, int, int] | None, formats: tuple[str, ...] | None = None
) -> PIL.Image.Image:
    """Opens a photo as upright RGB, cropped to (left, top, right, bottom) in pixels of the upright photo.

    Only `formats` are decoded; None allows all that Pillow knows. ValueError if it is not a picture that can be read,
    or the crop reaches outside.
    """
    try:
        with PIL.Image.open(file, formats=formats) as photo:
            picture = to_rgb(upright(photo))
    except Exception as error:  # decoders raise anything from SyntaxError to struct.error on a broken file
        raise ValueError(f"PHOTO is {file!r}; it must be a picture that can be read: {error}") from error
    if crop is None:
        return picture
    check_crop(crop, picture.size)
    return picture.crop(crop)


def check_crop(crop: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    """Raises ValueError unless a box is inside a picture of `size`, (width, height)."""
    left, top, right, bottom = crop
    if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
        raise ValueError(f"--crop is {crop}; it must be inside the photo, which is {size[0]}x{size[1]}")


def load_checkpoint_pipeline(checkpoint: Path) -> HalfFaceInpaintPipeline:
    """The model of RUN/checkpoints/step-N on the CPU, with EMA weights if the run keeps them.

    ValueError if the checkpoint is damaged, the run has no configuration, or its model is one of whole images.
    """
    written = checkpoint.parent.parent / CONFIG_FILE
    if not written.is_file():
        raise ValueError(f"{checkpoint} is not a checkpoint of a run; {written} is missing")
    loaded, config = load_checkpoint(checkpoint), from_yaml(written)
    hidden = config.model.hidden_half
    if hidden in WHOLE:
        raise ValueError(f"{checkpoint} is of whole images and not of a half: its model.hidden_half is {hidden!r}")
    steps = config.noise.num_train_timesteps
    network = build_network(config.model, config.data.height, config.data.width, num_train_timesteps=steps)
    network.load_state_dict({**loaded.network, **loaded.average})
    trained = training_scheduler(config.noise, config.objective.prediction_type)
    return trained_pipeline(network, saved_scheduler(trained, config.distillation), config.data, config.model)


def trained_pipeline(
    network: torch.nn.Module, scheduler: SchedulerMixin, data: DataConfig, model: ModelConfig
) -> HalfFaceInpaintPipeline:
    """The pipeline of a trained network, with the scheduler to save it with."""
    return HalfFaceInpaintPipeline(
        network.eval(),
        scheduler,
        data.height,
        data.width,
        model.hidden_half,
        model.known_layout,
        **training_frame(data),
        distilled_steps=distilled_steps(scheduler),
    )
