"""Conversion of images between PIL, NumPy and torch.

The dtype of a tensor implies its range: uint8 from 0 to 255, floating point from 0 to 1. Only the network and its loss
use [-1, 1] ("signed").
"""

import math
from typing import Literal

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch

from .halves import cut

Picture = PIL.Image.Image | np.ndarray | torch.Tensor
OutputType = Literal["pil", "np", "pt", "latent"]


def resize_to(image: PIL.Image.Image, height: int, width: int) -> PIL.Image.Image:
    """A new RGB image of this size: upright, cropped to its aspect at the centre, resized with antialiasing."""
    image = to_rgb(upright(image))
    # Crop before resizing, or the filter would include pixels outside.
    cut_width = min(image.width, max(1, round(image.height * width / height)))
    cut_height = min(image.height, max(1, round(image.width * height / width)))
    left, top = (image.width - cut_width) // 2, (image.height - cut_height) // 2
    image = image.crop((left, top, left + cut_width, top + cut_height))
    return image.resize((width, height), PIL.Image.Resampling.LANCZOS, reducing_gap=3.0)


def upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """The image rotated by its EXIF orientation, unchanged if its EXIF data are broken."""
    try:
        return PIL.ImageOps.exif_transpose(image)
    except Exception:  # anything from SyntaxError to struct.error; damaged pixels raise again when they are read
        return image


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """8-bit RGB of any PIL image: transparency over white, 16-bit grey scaled; ValueError without a fixed range."""
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError(f"its integers reach from {grey.min()} to {grey.max()}; 16-bit grey is 0 to 65535")
        return PIL.Image.fromarray(np.rint(grey / 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("it holds floats, whose range is unknown")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def known_halves(images: np.ndarray, hidden_half: str) -> list[np.ndarray]:
    """The known halves (h, w, 3) of complete images (N, H, W, 3), as inputs of the pipeline."""
    known = cut(torch.from_numpy(np.array(images)).permute(0, 3, 1, 2), hidden_half)[0]
    return list(known.permute(0, 2, 3, 1).contiguous().numpy())


def preprocess(half: Picture, height: int, width: int, image_size: tuple[int, int]) -> torch.Tensor:
    """One given half as (3, height, width), uint8 or floating point in [0, 1]; PIL images are resized.

    Raises ValueError if its type, shape or values do not fit, or it has the shape of a complete image (`image_size`).
    """
    if isinstance(half, PIL.Image.Image):
        half = upright(half)
        _check_aspect(half.height / half.width, height / width, image_size)
        half = np.array(resize_to(half, height, width))
    if isinstance(half, np.ndarray):
        _check_shape("an array", half.shape, (height, width, 3), (*image_size, 3))
        values = torch.tensor(half).permute(2, 0, 1)
        return values if half.dtype == np.uint8 else check_range(values)
    if not isinstance(half, torch.Tensor):
        raise ValueError(f"top_half is a {type(half).__name__}; it must be PIL, NumPy, torch or a list of these")
    _check_shape("a tensor", tuple(half.shape), (3, height, width), (3, *image_size))
    return check_range(half.detach().cpu())


def _check_shape(kind: str, shape: tuple[int, ...], half: tuple[int, ...], image: tuple[int, ...]) -> None:
    if shape == image:
        raise ValueError(f"top_half has the shape of a complete image, {shape}; cut out its known half, {half}, first")
    if shape != half:
        raise ValueError(f"top_half has shape {shape}; {kind} must be {half}")


def _check_aspect(aspect: float, half: float, image_size: tuple[int, int]) -> None:
    """Refuses a PIL image whose height-to-width ratio is closer to that of a complete image than to that of a half."""
    image = image_size[0] / image_size[1]
    if abs(math.log(aspect / image)) < abs(math.log(aspect / half)):
        raise ValueError(
            f"top_half has a height-to-width ratio of {aspect:.2f}, like a complete image ({image:.2f}) and not like "
            f"a half ({half:.2f}); cut out its known half first: image.crop((left, top, right, bottom))"
        )


def check_range(values: torch.Tensor, name: str = "top_half") -> torch.Tensor:
    """The values, floating point; ValueError if they are of another type or outside [0, 1]."""
    if not values.is_floating_point():
        raise ValueError(f"{name} has dtype {values.dtype}; it must be uint8 (NumPy) or floating point in [0, 1]")
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise ValueError(f"{name} has values outside [0, 1] or NaN; scale images in [-1, 1] by (x + 1) / 2")
    return values


def to_signed(image: torch.Tensor) -> torch.Tensor:
    """Floating point in [-1, 1] from uint8 or floating point in [0, 1]."""
    return image / 127.5 - 1 if image.dtype == torch.uint8 else image * 2 - 1


def to_unit(image: torch.Tensor) -> torch.Tensor:
    """Floating point in [0, 1] from uint8; floating point is returned unchanged."""
    return image / 255 if image.dtype == torch.uint8 else image


def to_uint8(image: torch.Tensor) -> torch.Tensor:
    """uint8 from floating point in [0, 1]; uint8 is returned unchanged."""
    return image if image.dtype == torch.uint8 else (image * 255).round().to(torch.uint8)


def postprocess(
    images: list[torch.Tensor], output_type: OutputType
) -> list[PIL.Image.Image] | np.ndarray | torch.Tensor:
    """Images (3, H, W) of one size as `pil`, `np` (N, H, W, 3) or `pt` (N, 3, H, W)."""
    if output_type == "pt":
        return torch.stack([to_unit(image) for image in images])
    if output_type == "np":
        return np.stack([to_unit(image).permute(1, 2, 0).numpy() for image in images])
    return [PIL.Image.fromarray(to_uint8(image).permute(1, 2, 0).contiguous().numpy()) for image in images]
