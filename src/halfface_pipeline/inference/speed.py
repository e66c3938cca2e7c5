"""Faster networks: bfloat16, channels last, folded upsampling, and memory that glibc keeps."""

import ctypes
import platform
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from diffusers.models.upsampling import Upsample2D

from ..remote_code.pipeline import HalfFaceInpaintPipeline

Speed = Literal["auto", "safe"]
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""


def has_native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # torch has no such function before 2.12.
        capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def training_precision(speed: Speed, mixed_precision: str | None, device: torch.device) -> str | None:
    """The configured precision; under `auto` bf16 where it is native (emulated, it is slower than float32), else None.

    None leaves it to accelerate's own configuration.
    """
    if mixed_precision is None and speed == "auto" and has_native_bf16(device):
        return "bf16"
    return mixed_precision


def prepare_for_sampling(pipe: HalfFaceInpaintPipeline, speed: Speed) -> HalfFaceInpaintPipeline:
    """Converts the network of a pipeline for sampling; the sample itself stays in float32.

    Args:
        pipe: The model, on its device. Changed in place.
        speed: `safe` leaves the weights as they are. `auto` uses bfloat16 weights, channels last, where the device has
            it natively, and on a CPU folds upsampling; completions then differ from `safe` ones by less than the
            rounding of colours to 8 bits on average. Such a model cannot be trained further.

    Returns:
        The same pipeline.

    Raises:
        ValueError: If the speed is unknown.
    """
    if speed not in get_args(Speed):
        raise ValueError(f"speed is {speed!r}; it must be one of {', '.join(get_args(Speed))}")
    return use_dtype(pipe, "bfloat16" if speed == "auto" and has_native_bf16(pipe.device) else "float32")


def use_dtype(pipe: HalfFaceInpaintPipeline, dtype: str) -> HalfFaceInpaintPipeline:
    """Converts the network of a pipeline to a dtype and the memory layout that suits it.

    Args:
        pipe: The model. Changed in place.
        dtype: `float32`, which leaves a network as it was saved, or `bfloat16`.

    Returns:
        The same pipeline.

    Raises:
        ValueError: If the dtype is another one.
    """
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype is {dtype!r}; it must be float32 or bfloat16")
    if dtype == "bfloat16":
        if pipe.device.type == "cpu":  # Not measured elsewhere.
            fold_upsampling(pipe.unet)
        pipe.unet.to(torch.bfloat16).to(memory_format=torch.channels_last)
    return pipe


class FoldedUpsample(torch.nn.Module):
    """An `Upsample2D` with frozen weights as one transposed convolution: 4 products per output instead of 9.

    After nearest-neighbour upsampling, a 3x3 window covers 2x2 different values. Summing the weights that meet the
    same value leaves a transposed convolution with a 4x4 kernel and stride 2. The state dict is unchanged.

    Args:
        conv: Its 3x3 convolution, (O, I, 3, 3) with padding 1.
    """

    def __init__(self, conv: torch.nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.register_buffer("kernel", fold(conv.weight.detach()), persistent=False)

    def forward(self, hidden_states: torch.Tensor, output_size: int | None = None) -> torch.Tensor:
        """(N, I, h, w) to (N, O, 2h, 2w); diffusers' blocks pass `output_size`, which must be None."""
        if output_size is not None:
            raise ValueError(f"output_size is {output_size}; it must be None: folded upsampling doubles the size")
        kernel, bias = self.kernel, self.conv.bias
        return torch.nn.functional.conv_transpose2d(hidden_states, kernel, bias, stride=2, padding=1)  # type: ignore[arg-type]


def fold(weight: torch.Tensor) -> torch.Tensor:
    """Kernel of the transposed convolution that equals nearest-neighbour upsampling followed by a 3x3 convolution.

    With the weights a, b, c in one direction, an even position takes a of the previous value and b + c of its own, an
    odd one a + b of its own and c of the next; in the order of a transposed convolution: (c, b + c, a + b, a).
    Weights (O, I, 3, 3) become (I, O, 4, 4), for stride 2 and padding 1.
    """
    for dim in (-2, -1):
        a, b, c = weight.unbind(dim)
        weight = torch.stack([c, b + c, a + b, a], dim)
    return weight.transpose(0, 1).contiguous()


def fold_upsampling(network: torch.nn.Module) -> None:
    """Folds each plain `Upsample2D` of a network, in place, which cannot be trained further."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            conv = _only_convolution(child)
            if conv is not None:
                setattr(module, name, FoldedUpsample(conv))


def _only_convolution(module: torch.nn.Module) -> torch.nn.Conv2d | None:
    """The 3x3 convolution of an `Upsample2D` that does nothing else but repeat values; otherwise None."""
    if type(module) is not Upsample2D or module.norm is not None or not module.interpolate:
        return None
    conv = getattr(module, "conv", None)
    if not isinstance(conv, torch.nn.Conv2d):
        return None
    plain = ((3, 3), (1, 1), (1, 1), (1, 1), 1)
    return conv if (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups) == plain else None


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory in the process; other C libraries are left as they are.

    Otherwise glibc returns large blocks to the system and gets them back page by page, each zeroed: 12,000 page faults
    per training step of `configs/demo.yaml`, half the time of a feature network. The process keeps its peak size until
    `return_freed_memory`.
    """
    if _is_glibc():
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def return_freed_memory() -> None:
    """Returns free memory to the system now, which glibc otherwise keeps between small blocks in use."""
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
