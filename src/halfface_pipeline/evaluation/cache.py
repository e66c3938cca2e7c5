"""Completes faces, and keeps the completions on disk so that an interrupted evaluation resumes."""

import dataclasses
import hashlib
import json
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from tqdm.auto import tqdm

from ..config.schema import SamplingConfig
from ..diffusion.halves import known_halves
from ..diffusion.halves import split as split_halves
from ..inference.png_metadata import weights_sha256
from ..remote_code.halves import to_canonical
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from ..run_folder.files import atomic_write
from .dataset import EvaluationBatch

NOISE = "one generator per face"
"""Part of the cache key: changes whenever the same seed gives other noise."""


def complete(
    pipe: HalfFaceInpaintPipeline,
    batch: EvaluationBatch,
    sampling: SamplingConfig,
    batch_size: int = 32,
    label: str | None = "completing",
    first: int = 0,
) -> tuple[list[PIL.Image.Image], torch.Tensor]:
    """Completes every face of a batch; a completion depends on its seed and face alone, not on the batch.

    Args:
        pipe: The model, with the sampler to use.
        batch: The faces.
        sampling: `num_completions`, `num_inference_steps` and `seed`.
        batch_size: Completions computed at once.
        label: Of the progress bar; None shows none.
        first: Index of the first face in the whole evaluation set.

    Returns:
        Whole faces, those of one half together, and the hidden halves (N, K, 3, h, w) uint8 in canonical orientation.

    Raises:
        ValueError: If the pipeline refuses the arguments, or its result is not finite.
    """
    halves, num_completions = known_halves(batch.images, batch.hidden_half), sampling.num_completions
    seeds = np.random.default_rng(sampling.seed).integers(2**63 - 1, size=first + len(halves))[first:].tolist()
    generators = [torch.Generator().manual_seed(face_seed) for face_seed in seeds]
    pipe.set_progress_bar_config(disable=True)
    per_call = max(1, batch_size // num_completions)
    images, hidden = [], []
    with tqdm(total=len(halves) * num_completions, desc=label, unit="face", disable=label is None) as bar:
        for start in range(0, len(halves), per_call):
            some = slice(start, start + per_call)
            steps = sampling.num_inference_steps
            result = pipe(halves[some], num_completions, steps, generators[some], batch_size=batch_size)
            images += result.images
            hidden += [torch.tensor(np.array(half)).permute(2, 0, 1) for half in result.hidden_halves]
            bar.update(len(result.images))
    canonical = to_canonical(torch.stack(hidden), batch.hidden_half)
    return images, canonical.unflatten(0, (len(halves), num_completions))


@dataclass(frozen=True, eq=False)
class Completed:
    """Completions of n faces.

    Args:
        hidden: Hidden halves, (n, K, 3, h, w) uint8 in canonical orientation.
        visible_kept: Whether the known half is unchanged bit for bit, (n, K) booleans.
    """

    hidden: torch.Tensor
    visible_kept: torch.Tensor


class Completions:
    """Completes faces, or loads what an earlier run of the same evaluation completed.

    Args:
        pipe: The model, with the sampler to use.
        folder: The cache; each combination of model, sampler, data and settings has its own subfolder.
        images_sha256: Digest of the evaluation set.
        sampling: `num_completions`, `num_inference_steps` and `seed`.
        batch_size: Completions computed at once.
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

    @property
    def faces_at_once(self) -> int:
        """Faces completed, and cached, together."""
        return max(1, self.batch_size // self.sampling.num_completions)

    def complete(self, batch: EvaluationBatch, first: int, seed: int) -> Completed:
        """Completions of the faces from index `first` on, from the cache where possible; ValueError as `complete`."""
        shape = (len(batch.images), self.sampling.num_completions)
        file = self.folder / f"seed{seed}-{first:06d}-{shape[0]}.npz"
        with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(file) as cached:
            found = Completed(torch.from_numpy(cached["hidden"]), torch.from_numpy(cached["visible_kept"]))
            if found.hidden.shape == (*shape, *batch.truth.shape[1:]):
                return found
        sampling = dataclasses.replace(self.sampling, seed=seed)
        images, hidden = complete(self.pipe, batch, sampling, self.batch_size, None, first)
        whole = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)
        known = split_halves(whole, batch.hidden_half)[0].unflatten(0, shape)
        completed = Completed(hidden, (known == batch.known[:, None]).flatten(2).all(dim=2))
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as partial:
            np.savez(partial, hidden=completed.hidden.numpy(), visible_kept=completed.visible_kept.numpy())
        return completed
