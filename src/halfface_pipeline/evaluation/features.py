"""Feature networks by name: what turns whole faces into the vectors that distances are taken between."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

PIXELS_SIDE = 16


@dataclass(frozen=True)
class FeatureNetwork:
    """Turns uint8 faces (N, 3, H, W) into float32 features (N, D) on the CPU.

    Attributes:
        name: What it is chosen by.
        size: Height and width that faces are resized to; none for any size.
        dim: D.
        compute: The function.
    """

    name: str
    size: tuple[int, int] | None
    dim: int
    compute: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Features (N, D) of faces (N, 3, H, W) uint8."""
        return self.compute(images)


def load_features(name: str, path: str | None = None, device: str = "cpu") -> FeatureNetwork:
    """A feature network by name.

    Args:
        name: `pixels`, the colours of the face averaged to 16 x 16.
        path: Where weights lie; `pixels` has none.
        device: Where it computes.

    Returns:
        The network.

    Raises:
        ValueError: If there is none of this name.
    """
    if name != "pixels":
        raise ValueError(f"features is {name!r}; it must be pixels")
    return FeatureNetwork("pixels", None, 3 * PIXELS_SIDE**2, pixels)


def pixels(images: torch.Tensor) -> torch.Tensor:
    """Faces averaged over the areas of a 16 x 16 grid, flattened, from 0 to 1."""
    return F.adaptive_avg_pool2d(images.float() / 255, PIXELS_SIDE).flatten(1).cpu()
