"""The form in which a machine trains and evaluates a network fastest: number format, memory layout, upsampling."""

from collections.abc import Mapping
from typing import Literal, get_args

import torch

from ..remote_code.pipeline import HalfFaceInpaintPipeline
from .upsampling import fold_upsampling

Speed = Literal["auto", "safe"]


def has_native_bf16(device: torch.device) -> bool:
    """Whether the device has instructions of its own for products of bfloat16 numbers."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # Not there before torch 2.12.
        capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def training_precision(speed: Speed, mixed_precision: str | None, device: torch.device) -> str | None:
    """The mixed precision to train in.

    Args:
        speed: `auto` chooses bf16 where the device multiplies it natively; emulated, it is slower than float32.
        mixed_precision: What was asked for, which always holds.
        device: To train on.

    Returns:
        For `accelerate.Accelerator`; None leaves it to accelerate's own configuration.
    """
    if mixed_precision is None and speed == "auto" and has_native_bf16(device):
        return "bf16"
    return mixed_precision


def prepare_for_sampling(pipe: HalfFaceInpaintPipeline, speed: Speed) -> HalfFaceInpaintPipeline:
    """Puts the network of a pipeline into the form that is sampled with; the sample itself stays in float32.

    Args:
        pipe: The model, on its device. Changed in place.
        speed: `safe` leaves the weights as they are, so that a completion does not depend on the batch it is drawn in.
            `auto` takes bfloat16 weights, channels last, where the device multiplies them natively, and folds
            upsampling there on a CPU; completions then differ from `safe` ones by less than the rounding of colours
            to 8 bits on average. Such a model is not for training.

    Returns:
        The same pipeline.

    Raises:
        ValueError: If the speed is unknown.
    """
    if speed not in get_args(Speed):
        raise ValueError(f"speed is {speed!r}; it must be one of {', '.join(get_args(Speed))}")
    return use_dtype(pipe, "bfloat16" if speed == "auto" and has_native_bf16(pipe.device) else "float32")


def use_dtype(pipe: HalfFaceInpaintPipeline, dtype: str) -> HalfFaceInpaintPipeline:
    """Puts the network of a pipeline into a number format and the form that suits it.

    Args:
        pipe: The model. Changed in place.
        dtype: `float32`, which leaves a network as it was saved, or `bfloat16`.

    Returns:
        The same pipeline.

    Raises:
        ValueError: If the format is another one.
    """
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype is {dtype!r}; it must be float32 or bfloat16")
    if dtype == "bfloat16":
        if pipe.device.type == "cpu":  # Not measured elsewhere.
            fold_upsampling(pipe.unet)
        pipe.unet.to(torch.bfloat16).to(memory_format=torch.channels_last)
    return pipe
