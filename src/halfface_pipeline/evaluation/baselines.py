"""Baselines: another face's half, the half of the nearest training face, the mean completion, the mirrored half."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from ..data.images import ImageSet
from ..diffusion.halves import split
from ..remote_code.halves import join
from .dataset import to_tensor
from .features import FeatureNetwork

SEARCH_SIZE = (14, 22)
"""Known halves are averaged to at most this height and width before they are compared."""
BLOCK = 64


def other_half(faces: ImageSet, hidden_half: str, rows: range, num_faces: int) -> torch.Tensor:
    """The hidden half of each row's predecessor among the first `num_faces`, (n, 1, 3, h, w) uint8."""
    others = faces.images[[(row - 1) % num_faces for row in rows]]
    return split(to_tensor(others), hidden_half)[1][:, None]


def mean_completion(hidden: torch.Tensor) -> torch.Tensor:
    """The mean of the completions of each half per pixel, (N, K, 3, h, w) to (N, 1, 3, h, w), uint8."""
    return hidden.float().mean(dim=1, keepdim=True).round().to(torch.uint8)


def mirrored(known: torch.Tensor, hidden_half: str) -> torch.Tensor:
    """Whole faces of a known half and its own mirror image, (N, 3, h, w) to (N, 3, H, W)."""
    return join(known, known.flip(-2), hidden_half)


class NearestTraining:
    """Finds the training face, among the first `num_training`, whose known half has the nearest colours."""

    def __init__(self, faces: ImageSet, hidden_half: str, num_training: int) -> None:
        self.faces, self.hidden_half = faces.images[:num_training], hidden_half
        self.num_training = len(self.faces)
        self._known = torch.cat([_averaged(split(block, hidden_half)[0]) for block in self._blocks()])

    def _blocks(self) -> Iterator[torch.Tensor]:
        for start in range(0, self.num_training, BLOCK):
            yield to_tensor(self.faces[start : start + BLOCK])

    def features(self, network: FeatureNetwork, known_alone: bool = False) -> torch.Tensor:
        """Features (T, D) of the training faces, or of their known halves and the mirror images of these."""
        found = []
        for block in tqdm(self._blocks(), "features of training faces", -(-self.num_training // BLOCK)):
            known = split(block, self.hidden_half)[0]
            found.append(network(mirrored(known, self.hidden_half) if known_alone else block))
        return torch.cat(found)

    def half(self, known: torch.Tensor) -> torch.Tensor:
        """The hidden half of the nearest training face, (N, 3, h, w) uint8 to (N, 1, 3, h, w) uint8."""
        rows = torch.cdist(_averaged(known), self._known).argmin(dim=1)
        return split(to_tensor(self.faces[rows.numpy()]), self.hidden_half)[1][:, None]


def _averaged(known: torch.Tensor) -> torch.Tensor:
    height, width = (min(most, side) for most, side in zip(SEARCH_SIZE, known.shape[-2:], strict=True))
    return F.adaptive_avg_pool2d(known / 255, (height, width)).flatten(1)
