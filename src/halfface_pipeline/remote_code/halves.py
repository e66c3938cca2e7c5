"""Where the cut runs: halves of an image, the frame the network works in, its channel order and its padding.

Inside, every image is turned so that the hidden half lies below the known one. The turned frame is what training,
sampling and the saved weights share; nothing else in the package knows about directions or padding.
"""

from typing import Any

import torch
import torch.nn.functional as F

QUARTER_TURNS = {"bottom": 0, "right": -1, "top": 2, "left": 1}
"""Counter-clockwise quarter turns that bring each hidden half below the known one."""

KNOWN_HALF = {"bottom": "top", "right": "left", "top": "bottom", "left": "right"}
"""The half that is seen, for each that is hidden."""

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
    """Height and width of one half as it stands in the image.

    Args:
        height: Height of the whole image in pixels.
        width: Width of the whole image in pixels.
        hidden_half: `bottom`, `top`, `left` or `right`.

    Returns:
        (height, width) of each half in pixels.

    Raises:
        ValueError: If the side across the cut is odd, or `hidden_half` is unknown.
    """
    check_hidden_half(hidden_half)
    for name, side in (("height", height), ("width", width)):
        if side < 2:
            raise ValueError(f"{name} is {side}; it must be at least 2")
    side, name = (height, "height") if hidden_half in ("bottom", "top") else (width, "width")
    if side % 2:
        raise ValueError(f"{name} is {side}; it must be even to cut off the {hidden_half} half")
    return (height // 2, width) if name == "height" else (height, width // 2)


def known_box(height: int, width: int, hidden_half: str) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the known half in the whole image; arguments and errors as in `half_size`."""
    high, wide = half_size(height, width, hidden_half)
    left, top = (width - wide if hidden_half == "left" else 0), (height - high if hidden_half == "top" else 0)
    return left, top, left + wide, top + high


def canonical_size(height: int, width: int, hidden_half: str) -> tuple[int, int]:
    """Height and width of one half in the turned frame; the seam is its width."""
    half = half_size(height, width, hidden_half)
    return half if QUARTER_TURNS[hidden_half] % 2 == 0 else (half[1], half[0])


def to_canonical(image: torch.Tensor, hidden_half: str) -> torch.Tensor:
    """Turns images, or halves of them, into the frame where the hidden half lies below, (..., H, W)."""
    return image.rot90(QUARTER_TURNS[hidden_half], dims=(-2, -1))


def from_canonical(image: torch.Tensor, hidden_half: str) -> torch.Tensor:
    """Inverse of `to_canonical`."""
    return image.rot90(-QUARTER_TURNS[hidden_half], dims=(-2, -1))


def split(image: torch.Tensor, hidden_half: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Cuts whole images into the two halves, both in the turned frame.

    Args:
        image: Images, (..., H, W), of any value range and dtype.
        hidden_half: `bottom`, `top`, `left` or `right`.

    Returns:
        (known, hidden), each of `turned_size(H, W, hidden_half)`.

    Raises:
        ValueError: If the side across the cut is odd, or `hidden_half` is unknown.
    """
    half_size(image.shape[-2], image.shape[-1], hidden_half)
    known, hidden = to_canonical(image, hidden_half).chunk(2, dim=-2)
    return known, hidden


def join(known: torch.Tensor, hidden: torch.Tensor, hidden_half: str) -> torch.Tensor:
    """Inverse of `split`: whole images (..., H, W) from two halves in the turned frame."""
    return from_canonical(torch.cat([known, hidden], dim=-2), hidden_half)


def cut(image: torch.Tensor, hidden_half: str) -> tuple[torch.Tensor, torch.Tensor]:
    """As `split`, with both halves the way they stand in the image, each of `half_size(H, W, hidden_half)`."""
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
    """Asks the network about a noisy hidden half beside its clean known half: the conditioning, in one place.

    The network sees the concatenation of the noisy hidden and the known half over channels (as in Palette, Saharia et
    al. 2022), padded with zeros to the multiple its down-sampling needs: away from the seam and evenly at the sides.

    Args:
        network: A `UNet2DModel`-like module from (N, 2C, H', W'), or C channels where nothing is known, and timesteps
            to (N, C, H', W').
        noisy_hidden: Noisy hidden half in the turned frame, (N, C, h, w), scaled as the noise level asks.
        known: Clean known half in the turned frame, (N, C, h, w), in [-1, 1]; none for a network that draws whole
            images and sees the noisy one alone.
        timestep: Noise level on the trained scale from 0 to T-1, whole or fractional, scalar or (N,).
        known_layout: `stacked` or `mirrored`.
        multiple: Both sides of the network's input are multiples of it.

    Returns:
        The prediction for the hidden half, (N, C, h, w).
    """
    height, width = noisy_hidden.shape[-2:]
    down, across = -height % multiple, -width % multiple
    left, right = across // 2, across - across // 2
    shown = F.pad(noisy_hidden, (left, right, 0, down))
    if known is not None:
        known = known.flip(-2) if known_layout == "mirrored" else known
        known = F.pad(known, (left, right, 0, down) if known_layout == "mirrored" else (left, right, down, 0))
        shown = torch.cat([shown, known], dim=1)
    prediction = network(shown, timestep, return_dict=False)[0]
    return prediction[..., :height, left : left + width]


def size_multiple(network: Any) -> int:
    """What each side of a network's input must be a multiple of.

    Args:
        network: A `UNet2DModel`, or one that says by `halves_every_level` that it halves at the last level too; alone
            or inside a data-parallel wrapper.

    Returns:
        A power of two.
    """
    network = getattr(network, "module", network)
    return level_multiple(len(network.config.block_out_channels), getattr(network, "halves_every_level", False))


def level_multiple(levels: int, halves_every_level: bool = False) -> int:
    """As `size_multiple`, from the number of levels; a `UNet2DModel` halves at every one but the last."""
    return 2 ** (levels if halves_every_level else levels - 1)
