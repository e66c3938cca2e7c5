"""Halves of an image, their canonical orientation, and the conditioning of the network.

In the canonical orientation the hidden half is below the known one. Training, sampling and the saved weights use it;
nothing else in the package knows about directions or padding.
"""

from typing import Any

import torch
import torch.nn.functional as F

QUARTER_TURNS = {"bottom": 0, "right": -1, "top": 2, "left": 1}
"""Counter-clockwise quarter turns that bring each hidden half below the known one."""
KNOWN_LAYOUTS = ("stacked", "mirrored")


def check_size(height: Any, width: Any) -> None:
    """Raises ValueError unless the height and width of complete images are whole numbers in a range."""
    for name, side in (("height", height), ("width", width)):
        if not isinstance(side, int) or not 2 <= side <= 16384:
            raise ValueError(f"{name} is {side}; it must be the {name} of complete images, from 2 to 16384")


def half_size(height: int, width: int, hidden_half: str) -> tuple[int, int]:
    """Height and width of each half in the image; ValueError if the side across the cut is odd."""
    if hidden_half not in QUARTER_TURNS:
        raise ValueError(f"hidden_half is {hidden_half!r}; it must be one of {', '.join(QUARTER_TURNS)}")
    check_size(height, width)
    side, name = (height, "height") if hidden_half in ("bottom", "top") else (width, "width")
    if side % 2:
        raise ValueError(f"{name} is {side}; it must be even to cut off the {hidden_half} half")
    return (height // 2, width) if name == "height" else (height, width // 2)


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


def join(known: torch.Tensor, hidden: torch.Tensor, hidden_half: str) -> torch.Tensor:
    """The complete images of known and hidden halves in canonical orientation."""
    return from_canonical(torch.cat([known, hidden], dim=-2), hidden_half)


def predict(
    network: torch.nn.Module,
    noisy_hidden: torch.Tensor,
    known: torch.Tensor | None,
    timestep: torch.Tensor,
    known_layout: str,
    multiple: int | None = None,
) -> torch.Tensor:
    """Predicts from the noisy hidden half and the clean known half, concatenated over channels.

    As in Palette (Saharia et al. 2022). Both halves are (N, C, h, w) in canonical orientation, `known` in [-1, 1] or
    None for an unconditional network; `timestep` is from 0 to T - 1, scalar or (N,). The network's input is padded to
    multiples of `multiple`, None for the network's own, with zeros away from the seam and evenly at the sides.
    """
    multiple = multiple or size_multiple(network)
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
