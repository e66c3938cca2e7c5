"""Complete images cut into halves, in canonical orientation or as they stand in the image."""

import numpy as np
import torch

from ..remote_code.halves import from_canonical, half_size, to_canonical

KNOWN_HALF = {"bottom": "top", "right": "left", "top": "bottom", "left": "right"}
"""The known half for each hidden one."""


def split(image: torch.Tensor, hidden_half: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Known and hidden half of complete images (..., H, W), each of `canonical_size(H, W, hidden_half)`."""
    half_size(image.shape[-2], image.shape[-1], hidden_half)
    known, hidden = to_canonical(image, hidden_half).chunk(2, dim=-2)
    return known, hidden


def cut(image: torch.Tensor, hidden_half: str) -> tuple[torch.Tensor, torch.Tensor]:
    """As `split`, with both halves as they are in the image, each of `half_size(H, W, hidden_half)`."""
    known, hidden = split(image, hidden_half)
    return from_canonical(known, hidden_half), from_canonical(hidden, hidden_half)


def known_halves(images: np.ndarray, hidden_half: str) -> list[np.ndarray]:
    """The known halves (h, w, 3) of complete images (N, H, W, 3), as inputs of the pipeline."""
    known = cut(torch.from_numpy(np.array(images)).permute(0, 3, 1, 2), hidden_half)[0]
    return list(known.permute(0, 2, 3, 1).contiguous().numpy())


def known_box(height: int, width: int, hidden_half: str) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the known half in the complete image."""
    high, wide = half_size(height, width, hidden_half)
    left, top = (width - wide if hidden_half == "left" else 0), (height - high if hidden_half == "top" else 0)
    return left, top, left + wide, top + high
