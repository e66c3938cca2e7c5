"""Faces and their landmarks by MTCNN (Zhang et al. 2016, "Joint Face Detection and Alignment Using Multitask Cascaded
Convolutional Networks"), three small networks that look at ever fewer windows in ever more detail.

The weights are those of the package `mtcnn` (MIT), which runs them in TensorFlow; here torch does.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

WINDOW = 12
"""Side of the first network's window, which it moves by `STRIDE` pixels."""
STRIDE = 2
PYRAMID_STEP = 0.709
THRESHOLDS = (0.6, 0.7, 0.8)
"""Least score of a face in each network."""

Network = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]


@cache
def networks() -> tuple[Network, Network, Network]:
    """The three networks, from coarse to fine.

    Returns:
        The proposal, refinement and output network, each from (N, 3, h, w) in [-1, 1] to its outputs, scores last.

    Raises:
        ModuleNotFoundError: If the package `mtcnn` is not installed.
    """
    import joblib

    package = find_spec("mtcnn")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'mtcnn'")
    folder = Path(package.origin).parent / "assets" / "weights"
    proposal, refinement, output = (
        [torch.from_numpy(np.array(array)) for array in joblib.load(folder / f"{name}.lz4")]
        for name in ("pnet", "rnet", "onet")
    )
    return (
        lambda windows: _proposal(windows, proposal),
        lambda windows: _dense(_convolved(windows, refinement[:9], (3, 3, 0)), refinement[9:]),
        lambda windows: _dense(_convolved(windows, output[:12], (3, 3, 2, 0)), output[12:]),
    )


def _convolved(x: torch.Tensor, weights: list[torch.Tensor], pools: tuple[int, ...]) -> torch.Tensor:
    """Convolution, PReLU and maximum pooling of the side in `pools`; weights are (h, w, in, out), as TensorFlow's."""
    for layer, pool in enumerate(pools):
        kernel, bias, slope = weights[3 * layer : 3 * layer + 3]
        x = F.prelu(F.conv2d(x, kernel.permute(3, 2, 0, 1), bias), slope.flatten())
        if pool:
            x = F.max_pool2d(x, pool, STRIDE, ceil_mode=True)
    return x


def _proposal(x: torch.Tensor, weights: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    x = _convolved(x, weights[:9], (2, 0, 0))
    boxes, scores = (F.conv2d(x, weights[i].permute(3, 2, 0, 1), weights[i + 1]) for i in (9, 11))
    return boxes, scores.softmax(1)[:, 1]


def _dense(x: torch.Tensor, weights: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    kernel, bias, slope = weights[:3]
    x = F.prelu(x.permute(0, 3, 2, 1).flatten(1) @ kernel + bias, slope)
    *offsets, scores = (x @ weights[i] + weights[i + 1] for i in range(3, len(weights), 2))
    return *offsets, scores.softmax(1)[:, 1]


@torch.no_grad()
def detect(image: np.ndarray, min_face: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds the faces of a picture.

    Args:
        image: RGB, uint8 (H, W, 3).
        min_face: Side in pixels of the smallest face looked for.

    Returns:
        (boxes (N, 4) as left, top, right, bottom; scores (N,); landmarks (N, 5, 2) as x, y: left eye, right eye, nose,
        left and right corner of the mouth, as they stand in the picture), best first.

    Raises:
        ModuleNotFoundError: If the package `mtcnn` is not installed.
    """
    proposal, refinement, output = networks()
    pixels = (torch.tensor(image).permute(2, 0, 1)[None].float() - 127.5) / 128
    boxes, scores = _proposals(proposal, pixels, min_face)
    for network, side, threshold in ((refinement, 24, THRESHOLDS[1]), (output, 48, THRESHOLDS[2])):
        boxes = _square(boxes)
        if len(boxes) == 0:
            break
        offsets, *landmarks, scores = network(_windows(pixels, boxes, side))
        kept = scores > threshold
        boxes, offsets, scores = boxes[kept], offsets[kept], scores[kept]
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        if landmarks:
            points = landmarks[0][kept].view(-1, 2, 5).transpose(1, 2) * sides[:, None, :2] + boxes[:, None, :2]
        boxes = boxes + offsets * sides
        best = _suppressed(boxes, scores, 0.7, of_smaller=side == 48)
        boxes, scores = boxes[best], scores[best]
        if landmarks:
            return boxes.numpy(), scores.numpy(), points[best].numpy()
    return np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32)


def _proposals(network: Network, pixels: torch.Tensor, min_face: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes and scores of the windows of every scale that may hold a face."""
    height, width = pixels.shape[-2:]
    found, scale = [(torch.zeros(0, 4), torch.zeros(0))], WINDOW / min_face
    while min(height, width) * scale >= WINDOW:
        size = (round(height * scale), round(width * scale))
        offsets, scores = network(F.interpolate(pixels, size, mode="area" if scale < 1 else "bilinear"))
        row, column = torch.nonzero(scores[0] > THRESHOLDS[0], as_tuple=True)
        corner = torch.stack([column, row, column, row], dim=1) * STRIDE + torch.tensor([0, 0, WINDOW, WINDOW])
        boxes = (corner + offsets[0, :, row, column].T * WINDOW) / scale
        best = _suppressed(boxes, scores[0, row, column], 0.5)
        found.append((boxes[best], scores[0, row, column][best]))
        scale *= PYRAMID_STEP
    boxes, scores = torch.cat([each[0] for each in found]), torch.cat([each[1] for each in found])
    best = _suppressed(boxes, scores, 0.7)
    return boxes[best], scores[best]


def _square(boxes: torch.Tensor) -> torch.Tensor:
    """Squares of the same centre around boxes."""
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([centre - half, centre + half], dim=1).round()


def _windows(pixels: torch.Tensor, boxes: torch.Tensor, side: int) -> torch.Tensor:
    """The boxes of a picture, (N, 3, side, side), black outside of it."""
    height, width = pixels.shape[-2:]
    windows = []
    for left, top, right, bottom in boxes.int().tolist():
        beyond = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
        window = F.pad(pixels[..., max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)], beyond)
        windows.append(F.interpolate(window, (side, side), mode="area"))
    return torch.cat(windows)


def _suppressed(boxes: torch.Tensor, scores: torch.Tensor, overlap: float, of_smaller: bool = False) -> torch.Tensor:
    """Indices of the boxes, best first, that overlap no better one by more than a fraction of both or the smaller."""
    order = scores.argsort(descending=True)
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        low, high = torch.maximum(boxes[best, :2], boxes[rest, :2]), torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        common = (high - low).clamp(min=0).prod(1)
        both = torch.minimum(areas[best], areas[rest]) if of_smaller else areas[best] + areas[rest] - common
        order = rest[common / both <= overlap]
    return torch.stack(kept) if kept else torch.zeros(0, dtype=torch.long)
