"""Finds the faces of a photo and where their eyes are."""

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import PIL.Image
import torch

from .frame import cut_out, similarity
from .mtcnn import detect, networks

MOST_PIXELS = 1000
"""Longest side of the copy of the photo that is searched."""
SMALLEST = 40
"""Side in pixels of the smallest face that is looked for in this copy."""
WINDOW = 48
"""Side of the window in which the eyes are found again, upright."""
WINDOW_EYES = np.array([[0.343, 0.40], [0.66, 0.40]]) * WINDOW
"""Where the eyes lie in it: the mean of MTCNN's own windows."""
REFINEMENTS = 2
LEAST_SCORE = 0.8
"""Of the upright face; below it MTCNN has taken something else for a face."""
NEEDS = ("mtcnn", "lz4", "joblib")
NEEDS_EXTRA = "finding the face needs the extra photo: pip install 'halfface-pipeline[photo]'"


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a photo.

    Args:
        eyes: The left and the right eye as they stand in the photo, (2, 2), x and y in pixels.
        score: From 0 to 1, how sure it is that this is a face.
    """

    eyes: np.ndarray
    score: float

    @property
    def eye_distance(self) -> float:
        """Between the eyes, in pixels."""
        return float(np.linalg.norm(self.eyes[1] - self.eyes[0]))


def can_find_faces() -> bool:
    """Whether the extra `photo` is installed."""
    return all(find_spec(name) is not None for name in NEEDS)


def find_faces(photo: PIL.Image.Image) -> list[Face]:
    """The faces of a photo, turned by up to about 45 degrees, at least 4 % of its longest side wide.

    Args:
        photo: Upright RGB of any size; at most 1000 pixels a side are searched.

    Returns:
        The faces, by the distance of their eyes, the largest first.

    Raises:
        ValueError: If the extra `photo` is not installed.
    """
    if not can_find_faces():
        raise ValueError(f"{NEEDS_EXTRA}; or give the place of the face by --crop")
    reduction = max(1.0, max(photo.size) / MOST_PIXELS)
    size = (max(1, round(photo.width / reduction)), max(1, round(photo.height / reduction)))
    copy = photo.resize(size, PIL.Image.Resampling.LANCZOS, reducing_gap=3.0) if reduction > 1 else photo
    landmarks = detect(np.asarray(copy), SMALLEST)[2]
    faces = [_upright(photo, eyes * np.array(photo.size) / size) for eyes in landmarks[:, :2].astype(float)]
    return sorted((face for face in faces if face.score >= LEAST_SCORE), key=lambda face: -face.eye_distance)


@torch.no_grad()
def _upright(photo: PIL.Image.Image, eyes: np.ndarray) -> Face:
    """The face with its eyes found again in an upright window, the mean of the window and its mirror image."""
    score = 0.0
    for _ in range(REFINEMENTS):
        place = similarity(WINDOW_EYES, eyes)
        window = torch.tensor(np.asarray(cut_out(photo, place, WINDOW, WINDOW))).permute(2, 0, 1).float()
        _, landmarks, scores = networks()[2](torch.stack([window, window.flip(-1)]) / 128 - 127.5 / 128)
        points = landmarks.view(2, 2, 5)[:, :, :2].transpose(1, 2).double().numpy()
        mirrored = np.array([1, 0]) + np.array([-1, 1]) * points[1, ::-1]
        eyes = place((points[0] + mirrored) / 2 * WINDOW)
        score = float(scores.mean())
    return Face(eyes, score)
