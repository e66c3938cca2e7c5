"""Baselines: another face's half, the half of the nearest training face, the mean completion, the mirrored half."""

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from ..data.images import ImageSet
from ..diffusion.halves import split as split_halves
from ..remote_code.halves import join
from .features import FeatureNetwork

SEARCH_SIZE = (14, 22)
"""Known halves are averaged to at most this height and width before they are compared."""
BLOCK = 64


def other_half(faces: ImageSet, hidden_half: str, rows: range, num_faces: int) -> torch.Tensor:
    """The hidden half of each row's predecessor among the first `num_faces`, (n, 1, 3, h, w) uint8."""
    return _halves(faces, hidden_half, [(row - 1) % num_faces for row in rows])[1][:, None]


def mean_completion(hidden: torch.Tensor) -> torch.Tensor:
    """The mean of the completions of each half per pixel, (N, K, 3, h, w) to (N, 1, 3, h, w), uint8."""
    return hidden.float().mean(dim=1, keepdim=True).round().to(torch.uint8)


def mirrored(known: torch.Tensor, hidden_half: str) -> torch.Tensor:
    """Whole faces of a known half and its own mirror image, (N, 3, h, w) to (N, 3, H, W)."""
    return join(known, known.flip(-2), hidden_half)


class NearestTraining:
    """Finds the training face whose known half has the nearest colours.

    Args:
        faces: The training part of the data.
        hidden_half: The half that is hidden.
        num_training: Faces to search, from the first; all if there are fewer.
    """

    def __init__(self, faces: ImageSet, hidden_half: str, num_training: int) -> None:
        self.faces, self.hidden_half = faces, hidden_half
        self.num_training = min(num_training, len(faces))
        starts = range(0, self.num_training, BLOCK)
        self._blocks = [range(start, min(start + BLOCK, self.num_training)) for start in starts]
        self._known = torch.cat([_averaged(_halves(faces, hidden_half, block)[0]) for block in self._blocks])

    def features(self, network: FeatureNetwork, known_alone: bool = False) -> torch.Tensor:
        """Features (T, D) of the training faces, or of their known halves and the mirror images of these."""
        found = []
        with tqdm(total=self.num_training, desc="features of training faces", unit="face") as bar:
            for block in self._blocks:
                images = _stack(self.faces, block)
                if known_alone:
                    images = mirrored(split_halves(images, self.hidden_half)[0], self.hidden_half)
                found.append(network(images))
                bar.update(len(block))
        return torch.cat(found)

    def half(self, known: torch.Tensor) -> torch.Tensor:
        """The hidden half of the nearest training face, (N, 3, h, w) uint8 to (N, 1, 3, h, w) uint8."""
        rows = torch.cdist(_averaged(known), self._known).argmin(dim=1)
        return _halves(self.faces, self.hidden_half, rows.tolist())[1][:, None]


def _averaged(known: torch.Tensor) -> torch.Tensor:
    height, width = (min(most, side) for most, side in zip(SEARCH_SIZE, known.shape[-2:], strict=True))
    return F.adaptive_avg_pool2d(known / 255, (height, width)).flatten(1)


def _stack(faces: ImageSet, rows: list[int] | range) -> torch.Tensor:
    return torch.from_numpy(np.stack([faces.images[row] for row in rows])).permute(0, 3, 1, 2)


def _halves(faces: ImageSet, hidden_half: str, rows: list[int] | range) -> tuple[torch.Tensor, torch.Tensor]:
    return split_halves(_stack(faces, rows), hidden_half)
