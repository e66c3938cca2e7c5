"""Random changes of whole training images: small rotations, scalings and shifts, and changes of colour.

They are made before an image is cut, so that the known half shows them: a completion of an unchanged half has no
reason to be rotated or tinted, and the network needs no augmentation label as in Karras et al. 2022, appendix F.
"""

import math

import torch
from torch.nn import functional

NUM_PARAMETERS = 8
ROTATION, SCALE, SHIFT = math.radians(4), 0.05, 0.025
"""Standard deviations of the angle, of the logarithm of the scale, and of the shifts as fractions of the sides."""
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.05, 0.1, 0.15, math.radians(5)
"""Standard deviations of what is added, of the logarithms of two factors, and of the angle about the grey axis."""


def augment(images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Changes images of twice the training size and reduces them to it.

    Args:
        images: uint8 (n, C, 2H, 2W), RGB or grey.
        parameters: (n, NUM_PARAMETERS) standard normal; 0 changes nothing.

    Returns:
        Floating point in [0, 1], (n, C, H, W).
    """
    height, width = images.shape[2:]
    angle, scale, x, y = parameters[:, :4].T
    cos, sin = (function(angle * ROTATION) * torch.exp(scale * SCALE) for function in (torch.cos, torch.sin))
    rows = (cos, -sin * height / width, 2 * SHIFT * x), (sin * width / height, cos, 2 * SHIFT * y)
    theta = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=1)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images / 255, grid, "bicubic", "reflection", align_corners=False)
    return change_colours(halve(moved), parameters[:, 4:]).clamp(0, 1)


def halve(images: torch.Tensor) -> torch.Tensor:
    """(n, C, 2H, 2W) reduced to (n, C, H, W) by Pillow's Lanczos filter, so that sharpness is that of the data."""
    places = torch.arange(-5.5, 6, device=images.device) / 2
    filter = torch.sinc(places) * torch.sinc(places / 3)
    filter = (filter / filter.sum()).expand(images.shape[1], 1, 1, -1)
    images = functional.pad(images, (5, 5, 5, 5), mode="replicate")
    images = functional.conv2d(images, filter, stride=(1, 2), groups=images.shape[1])
    return functional.conv2d(images, filter.mT, stride=(2, 1), groups=images.shape[1])


def change_colours(images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Brightness, contrast about middle grey, and for RGB saturation and hue; parameters (n, 4)."""
    brightness, contrast, saturation, hue = (column[:, None, None, None] for column in parameters.T)
    images = (images - 0.5) * torch.exp(CONTRAST * contrast) + 0.5 + BRIGHTNESS * brightness
    if images.shape[1] == 1:
        return images
    grey = images.mean(1, keepdim=True)
    chroma = images - grey
    # The cross product with the grey axis (1, 1, 1) / sqrt(3): a rotation of the chroma by a right angle.
    across = (chroma.roll(1, 1) - chroma.roll(-1, 1)) / math.sqrt(3)
    chroma = chroma * torch.cos(HUE * hue) + across * torch.sin(HUE * hue)
    return grey + chroma * torch.exp(SATURATION * saturation)
