"""What completions are held against: another face's half, the nearest training face's half, the mean completion."""

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from ..data.images import ImageSet
from ..remote_code.halves import join
from ..remote_code.halves import split as cut_in_two
from .features import FeatureNetwork

SEARCH_SIZE = (14, 22)
"""Known halves are averaged to at most this height and width before they are compared."""
BLOCK = 64


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


def mirrored(known: torch.Tensor, hidden_half: str) -> torch.Tensor:
    """Whole faces of a known half and its own mirror image, (N, 3, h, w) in the turned frame to (N, 3, H, W)."""
    return join(known, known.flip(-2), hidden_half)


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

    def features(self, network: FeatureNetwork, known_alone: bool = False) -> torch.Tensor:
        """Features of the training faces that are searched.

        Args:
            network: The feature network.
            known_alone: Of the known halves beside their mirror image, not of the whole faces.

        Returns:
            (T, D).
        """
        found = []
        with tqdm(total=self.num_training, desc="features of training faces", unit="face") as bar:
            for block in self._blocks:
                if known_alone:
                    images = mirrored(_halves(self.faces, self.hidden_half, block)[0], self.hidden_half)
                else:
                    stacked = np.stack([self.faces.images[row] for row in block])
                    images = torch.from_numpy(stacked).permute(0, 3, 1, 2)
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


def _halves(faces: ImageSet, hidden_half: str, rows: list[int] | range) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.from_numpy(np.stack([faces.images[row] for row in rows])).permute(0, 3, 1, 2)
    return cut_in_two(images, hidden_half)
