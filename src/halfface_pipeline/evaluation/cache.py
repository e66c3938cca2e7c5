"""Completes faces, and keeps the completions on disk so that an interrupted evaluation resumes."""

import dataclasses
import hashlib
import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import torch

from ..config.schema import SamplingConfig
from ..diffusion.halves import known_halves
from ..diffusion.halves import split as split_halves
from ..inference.png_metadata import weights_sha256
from ..remote_code.halves import to_canonical
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from ..run_folder.files import atomic_write
from .dataset import to_tensor

NOISE = "one generator per face"
"""Part of the cache key: changes whenever the same seed gives other noise."""


def complete(
    pipe: HalfFaceInpaintPipeline,
    images: np.ndarray,
    sampling: SamplingConfig,
    batch_size: int = 32,
    label: str | None = "completing",
    first: int = 0,
) -> tuple[list[PIL.Image.Image], torch.Tensor]:
    """Completes every face of (N, H, W, 3) uint8 from its known half.

    A completion depends on its seed and face alone, not on the batch; `first` is the index of the first face in the
    whole evaluation set. The result is whole faces, those of one half together, and the hidden halves
    (N, K, 3, h, w) uint8 in canonical orientation. ValueError if the pipeline refuses the arguments, or its result is
    not finite.
    """
    halves, hidden_half = known_halves(images, pipe.config.hidden_half), pipe.config.hidden_half
    seeds = np.random.default_rng(sampling.seed).integers(2**63 - 1, size=first + len(halves))[first:].tolist()
    generators = [torch.Generator().manual_seed(face_seed) for face_seed in seeds]
    pipe.set_progress_bar_config(disable=label is None, desc=label)
    n, steps = sampling.num_completions, sampling.num_inference_steps
    result = pipe(halves, n, steps, generators, batch_size=batch_size)
    hidden = to_tensor(np.stack([np.asarray(half) for half in result.hidden_halves]))
    return result.images, to_canonical(hidden, hidden_half).unflatten(0, (len(halves), n))


class Completed(NamedTuple):
    """Completions of n faces."""

    hidden: torch.Tensor
    """Hidden halves, (n, K, 3, h, w) uint8 in canonical orientation."""
    visible_kept: torch.Tensor
    """Whether the known half is unchanged bit for bit, (n, K) booleans."""


class Completions:
    """Completes faces, or loads what an earlier run of the same evaluation completed.

    Each combination of model, sampler, data (by the digest of the evaluation set) and settings has its own subfolder.
    """

    def __init__(
        self,
        pipe: HalfFaceInpaintPipeline,
        folder: Path,
        images_sha256: str,
        sampling: SamplingConfig,
        batch_size: int = 32,
    ) -> None:
        self.pipe, self.sampling, self.batch_size = pipe, sampling, batch_size
        self.images_sha256 = images_sha256
        self.weights = weights_sha256(pipe.unet)
        scheduler = {name: value for name, value in pipe.scheduler.config.items() if not name.startswith("_")}
        key = {
            "weights": self.weights,
            "scheduler": [type(pipe.scheduler).__name__, scheduler],
            "model": [pipe.config.hidden_half, pipe.config.known_layout, pipe.config.height, pipe.config.width],
            "precision": str(pipe.unet.dtype),
            "completions": [sampling.num_completions, sampling.num_inference_steps, batch_size],
            "noise": NOISE,
            "data": images_sha256,
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
        self.folder = folder / digest[:16]

    def complete(self, images: np.ndarray, first: int, seed: int) -> Completed:
        """Completions of the faces from index `first` on, from the cache where possible; ValueError as `complete`."""
        shape = (len(images), self.sampling.num_completions)
        file = self.folder / f"seed{seed}-{first:06d}-{shape[0]}.npz"
        with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(file) as cached:
            return Completed(torch.from_numpy(cached["hidden"]), torch.from_numpy(cached["visible_kept"]))
        sampling = dataclasses.replace(self.sampling, seed=seed)
        wholes, hidden = complete(self.pipe, images, sampling, self.batch_size, None, first)
        given, kept = (
            split_halves(to_tensor(faces), self.pipe.config.hidden_half)[0]
            for faces in (images, np.stack([np.asarray(whole) for whole in wholes]))
        )
        completed = Completed(hidden, (kept.unflatten(0, shape) == given[:, None]).flatten(2).all(dim=2))
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as partial:
            np.savez(partial, hidden=completed.hidden.numpy(), visible_kept=completed.visible_kept.numpy())
        return completed
