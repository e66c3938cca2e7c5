"""Halves of an image, their canonical orientation, and the conditioning of the network.

In the canonical orientation the hidden half is below the known one. Training, sampling and the saved weights use it;
nothing else in the package knows about directions or padding.
"""

from typing import Any

import torch
import torch.nn.functional as F

QUARTER_TURNS = {"bottom": 0, "right": -1, "top": 2, "left": 1}
"""Counter-clockwise quarter turns that bring each hidden half below the known one."""
KNOWN_HALF = {"bottom": "top", "right": "left", "top": "bottom", "left": "right"}
"""The known half for each hidden one."""
KNOWN_LAYOUTS = ("stacked", "mirrored")


def check_hidden_half(hidden_half: str) -> None:
    """Raises ValueError unless `hidden_half` names a half."""
    if hidden_half not in QUARTER_TURNS:
        raise ValueError(f"hidden_half is {hidden_half!r}; it must be one of {', '.join(QUARTER_TURNS)}")


def check_known_layout(known_layout: str) -> None:
    """Raises ValueError unless `known_layout` names a layout."""
    if known_layout not in KNOWN_LAYOUTS:
        raise ValueError(f"known_layout is {known_layout!r}; it must be one of {', '.join(KNOWN_LAYOUTS)}")


def half_size(height: int, width: int, hidden_half: str) -> tuple[int, int]:
    """Height and width of each half in the image; ValueError if the side across the cut is odd."""
    check_hidden_half(hidden_half)
    for name, side in (("height", height), ("width", width)):
        if side < 2:
            raise ValueError(f"{name} is {side}; it must be at least 2")
    side, name = (height, "height") if hidden_half in ("bottom", "top") else (width, "width")
    if side % 2:
        raise ValueError(f"{name} is {side}; it must be even to cut off the {hidden_half} half")
    return (height // 2, width) if name == "height" else (height, width // 2)


def known_box(height: int, width: int, hidden_half: str) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the known half in the complete image."""
    high, wide = half_size(height, width, hidden_half)
    left, top = (width - wide if hidden_half == "left" else 0), (height - high if hidden_half == "top" else 0)
    return left, top, left + wide, top + high


def canonical_size(height: int, width: int, hidden_half: str) -> tuple[int, int]:
    """Height and width of each half in canonical orientation; the seam is its width."""
    half = half_size(height, width, hidden_half)
    return half if QUARTER_TURNS[hidden_half] % 2 == 0 else (half[1], half[0])


def to_canonical(image: torch.Tensor, hidden_half: str) -> torch.Tensor:
    """Rotates images or halves, (..., H, W), to canonical orientation."""
    return image.rot90(QUARTER_TURNS[hidden_half], dims=(-2, -1))


def from_canonical(image: torch.Tensor, hidden_half: str) -> torch.Tensor:
    """Inverse of `to_canonical`."""
    return image.rot90(-QUARTER_TURNS[hidden_half], dims=(-2, -1))


def split(image: torch.Tensor, hidden_half: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Known and hidden half of complete images (..., H, W), each of `canonical_size(H, W, hidden_half)`."""
    half_size(image.shape[-2], image.shape[-1], hidden_half)
    known, hidden = to_canonical(image, hidden_half).chunk(2, dim=-2)
    return known, hidden


def join(known: torch.Tensor, hidden: torch.Tensor, hidden_half: str) -> torch.Tensor:
    """Inverse of `split`."""
    return from_canonical(torch.cat([known, hidden], dim=-2), hidden_half)


def cut(image: torch.Tensor, hidden_half: str) -> tuple[torch.Tensor, torch.Tensor]:
    """As `split`, with both halves as they are in the image, each of `half_size(H, W, hidden_half)`."""
    known, hidden = split(image, hidden_half)
    return from_canonical(known, hidden_half), from_canonical(hidden, hidden_half)


def predict(
    network: torch.nn.Module,
    noisy_hidden: torch.Tensor,
    known: torch.Tensor | None,
    timestep: torch.Tensor,
    known_layout: str,
    multiple: int,
) -> torch.Tensor:
    """Predicts from the noisy hidden half and the clean known half, concatenated over channels.

    As in Palette (Saharia et al. 2022), padded with zeros away from the seam and evenly at the sides.

    Args:
        network: A `UNet2DModel`-like module from (N, 2C, H', W'), or C channels without a known half, and timesteps to
            (N, C, H', W').
        noisy_hidden: Noisy hidden half in canonical orientation, (N, C, h, w), scaled for its noise level.
        known: Clean known half in canonical orientation, (N, C, h, w), in [-1, 1]; None for an unconditional network.
        timestep: Noise level on the trained scale from 0 to T-1, whole or fractional, scalar or (N,).
        known_layout: `stacked` or `mirrored`.
        multiple: Both sides of the network's input are padded to multiples of it.

    Returns:
        The prediction for the hidden half, (N, C, h, w).
    """
    height, width = noisy_hidden.shape[-2:]
    down, across = -height % multiple, -width % multiple
    left, right = across // 2, across - across // 2
    sample = F.pad(noisy_hidden, (left, right, 0, down))
    if known is not None:
        known = known.flip(-2) if known_layout == "mirrored" else known
        known = F.pad(known, (left, right, 0, down) if known_layout == "mirrored" else (left, right, down, 0))
        sample = torch.cat([sample, known], dim=1)
    prediction = network(sample, timestep, return_dict=False)[0]
    return prediction[..., :height, left : left + width]


def size_multiple(network: Any) -> int:
    """The power of two that divides both sides of a network's input; the network may be in a data-parallel wrapper."""
    network = getattr(network, "module", network)
    return level_multiple(len(network.config.block_out_channels), getattr(network, "halves_every_level", False))


def level_multiple(levels: int, halves_every_level: bool = False) -> int:
    """As `size_multiple`, from the number of levels; a `UNet2DModel` halves at every one but the last."""
    return 2 ** (levels if halves_every_level else levels - 1)
