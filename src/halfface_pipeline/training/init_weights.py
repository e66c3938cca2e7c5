"""Weights of another model to start a training from (fine-tuning)."""

from pathlib import Path

import torch
from diffusers import DDPMPipeline

from ..inference.load import load_pipeline


def init_weights(network: torch.nn.Module, source: str, prediction_type: str, setting: str = "model.init_from") -> str:
    """Copies the weights of a model into a new network of the same widths and blocks.

    The first convolution may have other input channels; those of the noisy image, which come first, are copied then.

    Args:
        network: A new network.
        source: Run folder, checkpoint, Hub id, or a model of the package.
        prediction_type: `objective.prediction_type` of the new training.
        setting: Which setting names `source`.

    Returns:
        One line on what was copied.

    Raises:
        ValueError: If `source` is not a model, or its weights do not fit.
    """
    theirs, trained_type = _load(source, setting)
    own = network.state_dict()
    first = next(iter(own))
    name = next((name for name in own if name != first and not _fits(own[name], theirs.get(name))), None)
    extra = next((name for name in theirs if name not in own), None)
    if name is not None or extra is not None or not _fits(own[first][:, :1], theirs.get(first), channels=1):
        name = name or extra or first
        shapes = [str(tuple(each[name].shape)) if name in each else "absent" for each in (theirs, own)]
        raise ValueError(
            f"{setting} is {source!r}; its {name} is {shapes[0]}, that of this configuration {shapes[1]}: "
            "model.family, block_out_channels and the other settings of the network must be those it was trained with"
        )
    whole = own[first].shape == theirs[first].shape
    shared = own[first].shape[1] if whole else network.config.out_channels  # type: ignore[union-attr]
    with torch.no_grad():
        for key, value in own.items():
            target, given = (value, theirs[key]) if key != first else (value[:, :shared], theirs[key][:, :shared])
            target.copy_(given)
    line = f"{len(own)} tensors from {source}"
    if not whole:
        line += f", of {first} the first {shared} of {own[first].shape[1]} input channels"
    if trained_type != prediction_type:
        line += f"; it predicts {trained_type}, this training {prediction_type}: expect to train longer"
    return line


def _fits(own: torch.Tensor, theirs: torch.Tensor | None, channels: int | None = None) -> bool:
    """Whether a tensor is there with the same shape, or with the same shape but for its input channels."""
    return theirs is not None and own.shape == (theirs if channels is None else theirs[:, :channels]).shape


def _load(source: str, setting: str) -> tuple[dict[str, torch.Tensor], str]:
    """Weights of a model, whole images or halves, and what it predicts."""
    index = Path(source, "model_index.json")
    pipe = None
    if index.is_file() and "HalfFaceInpaintPipeline" not in index.read_text():  # a model of whole images
        pipe = DDPMPipeline.from_pretrained(source)
    try:
        pipe = pipe or load_pipeline(source)
    except ValueError as error:
        raise ValueError(str(error).replace("--model is", f"{setting} is", 1)) from error
    return pipe.unet.state_dict(), pipe.scheduler.config.prediction_type
