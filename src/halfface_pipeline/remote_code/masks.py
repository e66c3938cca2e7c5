"""Masks: which pixels of an image are hidden."""

from typing import Any

import numpy as np
import PIL.Image
import torch

from .halves import QUARTER_TURNS, join
from .image_io import resize_to, upright

Mask = str | PIL.Image.Image | np.ndarray | torch.Tensor


def read_mask(mask: Mask, height: int, width: int, photo_size: tuple[int, int] | None = None) -> torch.Tensor:
    """A mask as booleans, true where hidden.

    Args:
        mask: `all`, the name of a half, or an image, array or tensor (H, W) with an optional channel, of booleans or
            of two values, 0 and 1 or 0 and 255; 1 or white is hidden.
        height: Height of the model's images in pixels.
        width: Width of the model's images in pixels.
        photo_size: Height and width of the photo that is resized to the model's; a PIL mask of that size is resized
            with it, hidden where more than half of a pixel is.

    Returns:
        (1, height, width).

    Raises:
        ValueError: If the name is unknown, the size is another one, the mask is soft, or nothing is hidden.
    """
    if isinstance(mask, str):
        return _named(mask, height, width)
    if isinstance(mask, PIL.Image.Image):
        mask = upright(mask)
        if (mask.height, mask.width) == photo_size:
            hard = _booleans(np.array(mask.convert("L")))
            small = resize_to(PIL.Image.fromarray(hard.numpy().astype(np.uint8) * 255), height, width)
            hidden = torch.from_numpy(np.array(small)[..., 0] > 127)
        else:
            hidden = _booleans(np.array(mask.convert("L")))
    elif isinstance(mask, np.ndarray | torch.Tensor):
        hidden = _booleans(mask)
    else:
        raise ValueError(f"mask is a {type(mask).__name__}; it must be a name, PIL, NumPy or torch")
    if tuple(hidden.shape) in ((1, height, width), (height, width, 1)):
        hidden = hidden.reshape(height, width)
    if tuple(hidden.shape) != (height, width):
        found = "x".join(str(side) for side in hidden.shape)
        raise ValueError(f"mask is {found}; it must be {height}x{width} (height x width), as the image")
    if not bool(hidden.any()):
        raise ValueError("mask hides nothing; it must be 1 or white where pixels are to be generated")
    return hidden[None]


def masked_input(noisy: torch.Tensor, seen: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """The input of a network trained for masks: images, noisy where hidden, and the mask, (N, C + 1, H, W).

    `noisy` and `seen` are (N, C, H, W), `hidden` booleans (N, 1, H, W).
    """
    return torch.cat([torch.where(hidden, noisy, seen), hidden.to(noisy.dtype)], dim=1)


def _named(name: str, height: int, width: int) -> torch.Tensor:
    if name == "all":
        return torch.ones(1, height, width, dtype=torch.bool)
    if name not in QUARTER_TURNS:
        raise ValueError(
            f"mask is {name!r}; it must be all, {', '.join(QUARTER_TURNS)}, or an image of what is hidden"
        )
    side, across = (height, width) if name in ("bottom", "top") else (width, height)
    if side % 2:
        raise ValueError(f"mask is {name!r}; the image of {height}x{width} cannot be cut in two there: give a mask")
    known = torch.zeros(1, side // 2, across, dtype=torch.bool)
    return join(known, ~known, name)


def _booleans(mask: Any) -> torch.Tensor:
    values = torch.as_tensor(mask).detach().cpu()
    if values.dtype == torch.bool:
        return values
    distinct = values.unique()
    white = 255 if values.dtype == torch.uint8 and bool((distinct > 1).any()) else 1
    soft = [each for each in distinct.tolist() if each not in (0, white)]
    if soft:
        raise ValueError(f"mask has the value {soft[0]:g}; it must be hard: 0 where seen, 1 or white where hidden")
    return values > 0
