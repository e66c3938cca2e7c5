"""Pictures as people hand them over: PIL, NumPy and torch, in their own number ranges, and back."""

from typing import Literal

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch

from .halves import cut

Picture = PIL.Image.Image | np.ndarray | torch.Tensor
Encoding = Literal["uint8", "unit", "signed"]
"""uint8 from 0 to 255, floats in [0, 1], floats in [-1, 1]."""

OUTPUT_ENCODINGS: dict[str, Encoding] = {"pil": "uint8", "np": "unit", "pt": "signed"}


def resize_to(image: PIL.Image.Image, height: int, width: int) -> PIL.Image.Image:
    """Turn upright, cut the centre to the aspect of height to width, and resize with antialiasing.

    Args:
        image: Any PIL image; transparency is laid over white, 16-bit grey is scaled to 8 bits.
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Returns:
        A new RGB image of size (width, height).

    Raises:
        ValueError: The pixels are of a kind without a fixed range (floats, or integers of more than 16 bits).
    """
    image = to_rgb(upright(image))
    # The largest centred rectangle of whole pixels; cut before resizing, or the filter would reach what is cut off.
    cut_width = min(image.width, max(1, round(image.height * width / height)))
    cut_height = min(image.height, max(1, round(image.width * height / width)))
    left, top = (image.width - cut_width) // 2, (image.height - cut_height) // 2
    image = image.crop((left, top, left + cut_width, top + cut_height))
    return image.resize((width, height), PIL.Image.Resampling.LANCZOS, reducing_gap=3.0)


def upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """The image turned as its EXIF orientation says, or as it is where the EXIF data are broken."""
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
    """The visible halves (h, w, 3) of whole images (N, H, W, 3), each as the pipeline takes it."""
    known = cut(torch.from_numpy(np.array(images)).permute(0, 3, 1, 2), hidden_half)[0]
    return list(known.permute(0, 2, 3, 1).contiguous().numpy())


def read_half(half: Picture, height: int, width: int) -> tuple[torch.Tensor, Encoding]:
    """One half of a face in the encoding it was given in.

    Args:
        half: PIL of any size (made to fit by `resize_to`), NumPy (H, W, 3) uint8 or float in [0, 1], torch (3, H, W)
            in [-1, 1].
        height: Height of a half in pixels.
        width: Width of a half in pixels.

    Returns:
        (3, height, width) with the values given, and their encoding.

    Raises:
        ValueError: If the type, the shape, or the values do not fit.
    """
    if isinstance(half, PIL.Image.Image):
        half = np.array(resize_to(half, height, width))
    if isinstance(half, np.ndarray):
        if half.shape != (height, width, 3):
            raise ValueError(f"top_half has shape {half.shape}; an array must be {(height, width, 3)}")
        values = torch.tensor(half).permute(2, 0, 1)
        return (values, "uint8") if half.dtype == np.uint8 else (_in_range(values, 0.0, 1.0), "unit")
    if not isinstance(half, torch.Tensor):
        raise ValueError(f"top_half is a {type(half).__name__}; it must be PIL, NumPy, torch or a list of these")
    if tuple(half.shape) != (3, height, width):
        raise ValueError(f"top_half has shape {tuple(half.shape)}; a tensor must be {(3, height, width)}")
    return _in_range(half.detach().cpu(), -1.0, 1.0), "signed"


def _in_range(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
    if not values.is_floating_point():
        raise ValueError(f"top_half holds {values.dtype}; it must be uint8 (NumPy) or floats from {low} to {high}")
    if not bool(((values >= low) & (values <= high)).all()):
        raise ValueError(f"top_half has values outside [{low}, {high}] or not numbers; scale it first")
    return values


def encode(image: torch.Tensor, given: Encoding, wanted: Encoding) -> torch.Tensor:
    """Converts between encodings; what is already so stays as it is, bit for bit."""
    if given == wanted:
        return image
    if given == "uint8":
        return image / 255 if wanted == "unit" else image / 127.5 - 1
    if wanted == "uint8":
        return (image * 255 if given == "unit" else (image + 1) * 127.5).round().to(torch.uint8)
    return image * 2 - 1 if wanted == "signed" else (image + 1) / 2


def to_output(images: list[torch.Tensor], output_type: str) -> list[PIL.Image.Image] | np.ndarray | torch.Tensor:
    """Images (3, H, W) of one size as `pil`, `np` (N, H, W, 3) or `pt` (N, 3, H, W)."""
    if output_type == "pt":
        return torch.stack(images)
    arrays = [image.permute(1, 2, 0).numpy() for image in images]
    return np.stack(arrays) if output_type == "np" else [PIL.Image.fromarray(array) for array in arrays]
