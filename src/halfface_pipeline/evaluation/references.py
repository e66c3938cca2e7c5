"""What completions are held against: another face's half, the nearest training face's half, the mean completion."""

import numpy as np
import torch
import torch.nn.functional as F

from ..data.dataset import ImageSet
from ..halves import split as cut_in_two
from .features import FeatureNetwork

SEARCH_SIZE = (14, 22)
"""Known halves are averaged to at most this height and width before they are compared."""
BLOCK = 256


def other_half(faces: ImageSet, hidden_half: str, rows: range, num_faces: int) -> torch.Tensor:
    """The hidden half of the face before, the last before the first.

    Args:
        faces: The held-out faces.
        hidden_half: The half that is hidden.
        rows: The faces asked about.
        num_faces: How many of `faces` take part.

    Returns:
        (n, 1, 3, h, w) uint8 in the turned frame.
    """
    return _halves(faces, hidden_half, [(row - 1) % num_faces for row in rows])[1][:, None]


def mean_completion(hidden: torch.Tensor) -> torch.Tensor:
    """The pixel by pixel mean of the completions of each half, (N, K, 3, h, w) to (N, 1, 3, h, w), uint8."""
    return hidden.float().mean(dim=1, keepdim=True).round().to(torch.uint8)


class NearestTraining:
    """Finds, among training faces, the one whose known half is nearest in colours.

    Args:
        faces: The part trained on.
        hidden_half: The half that is hidden.
        num_training: Faces to search, from the first; all if there are fewer.
    """

    def __init__(self, faces: ImageSet, hidden_half: str, num_training: int) -> None:
        self.faces, self.hidden_half = faces, hidden_half
        self.num_training = min(num_training, len(faces))
        blocks = [range(first, min(first + BLOCK, self.num_training)) for first in range(0, self.num_training, BLOCK)]
        self._blocks = blocks
        self._known = torch.cat([_averaged(_halves(faces, hidden_half, block)[0]) for block in blocks])

    def features(self, network: FeatureNetwork) -> torch.Tensor:
        """Features of the training faces that are searched, (T, D)."""
        images = (torch.from_numpy(np.stack([self.faces.images[row] for row in block])) for block in self._blocks)
        return torch.cat([network(block.permute(0, 3, 1, 2)) for block in images])

    def half(self, known: torch.Tensor) -> torch.Tensor:
        """The hidden half of the nearest training face, (N, 3, h, w) uint8 to (N, 1, 3, h, w) uint8."""
        rows = torch.cdist(_averaged(known), self._known).argmin(dim=1)
        return _halves(self.faces, self.hidden_half, rows.tolist())[1][:, None]


def _averaged(known: torch.Tensor) -> torch.Tensor:
    height, width = (min(most, side) for most, side in zip(SEARCH_SIZE, known.shape[-2:], strict=True))
    return F.adaptive_avg_pool2d(known / 255, (height, width)).flatten(1)


def _halves(faces: ImageSet, hidden_half: str, rows: list[int] | range) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.from_numpy(np.stack([faces.images[row] for row in rows])).permute(0, 3, 1, 2)
    return cut_in_two(images, hidden_half)
