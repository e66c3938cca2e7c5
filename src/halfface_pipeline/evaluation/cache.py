"""Completions drawn a few faces at a time and kept on disk, so that long work can be cut short and taken up again."""

import hashlib
import json
import os
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..inference.png_metadata import weights_sha256
from ..remote_code.halves import split as cut_in_two
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from .trials import EvaluationBatch, complete

FOLDER = "completions"


@dataclass(frozen=True, eq=False)
class Drawn:
    """Completions of n faces.

    Attributes:
        hidden: Hidden halves, (n, K, 3, h, w) uint8 in the turned frame.
        visible_kept: Whether the known half came back bit for bit, (n, K) booleans.
    """

    hidden: torch.Tensor
    visible_kept: torch.Tensor


class Completions:
    """Draws completions, or reads those that an earlier run of the same evaluation has left.

    Args:
        pipe: The model, with the sampler to use.
        folder: Where they are kept, in a subfolder named by everything that went in.
        images_sha256: Of the held-out faces.
        num_completions: K.
        num_inference_steps: Denoising steps.
        batch_size: Completions computed at once.
    """

    def __init__(
        self,
        pipe: HalfFaceInpaintPipeline,
        folder: Path,
        images_sha256: str,
        num_completions: int,
        num_inference_steps: int,
        batch_size: int = 32,
    ) -> None:
        self.pipe, self.num_completions = pipe, num_completions
        self.num_inference_steps, self.batch_size = num_inference_steps, batch_size
        self.weights = weights_sha256(pipe.unet)
        scheduler = {name: value for name, value in pipe.scheduler.config.items() if not name.startswith("_")}
        went_in = {
            "weights": self.weights,
            "scheduler": [type(pipe.scheduler).__name__, scheduler],
            "model": [pipe.config.hidden_half, pipe.config.known_layout, pipe.config.height, pipe.config.width],
            "precision": str(pipe.unet.dtype),
            "completions": [num_completions, num_inference_steps, batch_size],
            "data": images_sha256,
        }
        text = json.dumps(went_in, sort_keys=True, default=str)
        self.key = hashlib.sha256(text.encode()).hexdigest()
        self.folder = folder / self.key[:16]

    @property
    def faces_at_once(self) -> int:
        """Faces completed, and kept, together."""
        return max(1, self.batch_size // self.num_completions)

    def draw(self, trial: EvaluationBatch, first: int, seed: int) -> Drawn:
        """Completions of some faces.

        Args:
            trial: The faces.
            first: The number of the first of them in the whole set.
            seed: Of the noise; a face's completions do not depend on which faces are drawn with it.

        Returns:
            The completions.

        Raises:
            ValueError: As `complete`.
        """
        file = self.folder / f"seed{seed}-{first:06d}-{len(trial.images)}.npz"
        with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            with np.load(file) as kept:
                found = Drawn(torch.from_numpy(kept["hidden"]), torch.from_numpy(kept["visible_kept"]))
            if found.hidden.shape == (len(trial.images), self.num_completions, *trial.truth.shape[1:]):
                return found
        images, hidden = complete(
            self.pipe,
            trial,
            self.num_completions,
            self.num_inference_steps,
            seed,
            self.batch_size,
            label=None,
            first=first,
        )
        whole = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
        known = cut_in_two(whole, trial.hidden_half)[0].unflatten(0, (len(trial.images), self.num_completions))
        drawn = Drawn(hidden, (known == trial.known[:, None]).flatten(2).all(dim=2))
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(f".{os.getpid()}.tmp")
        try:
            with unfinished.open("wb") as opened:
                np.savez(opened, hidden=drawn.hidden.numpy(), visible_kept=drawn.visible_kept.numpy())
            os.replace(unfinished, file)
        finally:
            unfinished.unlink(missing_ok=True)
        return drawn
