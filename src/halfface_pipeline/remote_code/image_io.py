"""Conversion of images between PIL, NumPy and torch.

The dtype of a tensor implies its range: uint8 from 0 to 255, floating point from 0 to 1. Only the network and its loss
use [-1, 1] ("signed").
"""

import math
from typing import Any, Literal

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch

Picture = PIL.Image.Image | np.ndarray | torch.Tensor
OutputType = Literal["pil", "np", "pt", "latent"]
CROP = "cut out its known half first: image.crop((left, top, right, bottom)), or array[top:bottom, left:right]"


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
    if image.mode == "F":
        raise ValueError("it holds floats, whose range is unknown")
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError(f"its integers reach from {grey.min()} to {grey.max()}; 16-bit grey is 0 to 65535")
        image = PIL.Image.fromarray(np.rint(grey / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def read_image(image: Picture, shape: tuple[int, int, int], name: str, complete: tuple[int, int]) -> torch.Tensor:
    """One given image as (C, H, W), uint8 or floating point in [0, 1]; PIL images are resized.

    Raises ValueError, naming the argument, if its type, shape or values do not fit, or if a half is needed and it has
    the height and width of a complete image.
    """
    channels, height, width = shape
    if isinstance(image, PIL.Image.Image):
        image = upright(image)
        aspects = [math.log(high / wide) for high, wide in ((image.height, image.width), (height, width), complete)]
        if abs(aspects[0] - aspects[2]) < abs(aspects[0] - aspects[1]):
            raise ValueError(f"{name} has a height-to-width ratio like a complete image; {CROP}")
        image = np.array(resize_to(image, height, width).convert("RGB" if channels == 3 else "L"))
    if isinstance(image, np.ndarray):
        values = torch.tensor(image[..., None] if image.ndim == 2 else image).movedim(-1, 0)
        form = f"an array must be {(height, width, channels)}"
    elif isinstance(image, torch.Tensor):
        values, form = image.detach().cpu(), f"a tensor must be {shape}"
    else:
        raise ValueError(f"{name} is a {type(image).__name__}; it must be PIL, NumPy, torch or a list of these")
    if values.shape == (channels, *complete) != shape:
        raise ValueError(f"{name} has the shape of a complete image, {tuple(image.shape)}; {CROP}")
    if values.shape != shape:
        raise ValueError(f"{name} has shape {tuple(image.shape)}; {form}")
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return values
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


def check_finite(images: torch.Tensor, scheduler: Any) -> torch.Tensor:
    """The images; ValueError if they have values that are not finite."""
    if not bool(torch.isfinite(images).all()):
        hint = f"check the weights of unet, or use another {type(scheduler).__name__}"
        raise ValueError(f"the completion has values that are not finite; {hint}")
    return images


def postprocess(images: torch.Tensor, output_type: OutputType) -> list[PIL.Image.Image] | np.ndarray | torch.Tensor:
    """Images (N, C, H, W) in [0, 1] as `pil`, `np` (N, H, W, C) or `pt`."""
    if output_type == "pt":
        return images
    arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
    if output_type == "np":
        return arrays
    arrays = (arrays * 255).round().astype(np.uint8)
    return [PIL.Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array) for array in arrays]
