"""Every random number of training, as a function of (seed, step) and the place in the global batch.

Nothing is carried from step to step, so a resumed run draws what an uninterrupted one would have. One process draws
what several do together, but for dropout, which each draws for itself.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from ..config.schema import TrainingConfig
from ..diffusion.masks import random_masks
from ..remote_code.image_io import to_signed
from .augment import NUM_PARAMETERS, augment

ORDER, FLIPS, NOISE, DROPOUT, AUGMENT, MASKS = range(6)


@dataclass(frozen=True)
class Batch:
    """What one optimizer step draws for its global batch of B images.

    Args:
        indices: Which images, (B,).
        flips: Which of them are mirrored, (B,) booleans.
        timesteps: t of each, (B,) integers from 0 to T-1.
        noise: eps of each, (B, *shape), standard normal.
    """

    indices: np.ndarray
    flips: torch.Tensor
    timesteps: torch.Tensor
    noise: torch.Tensor


def _hashed(*words: int) -> int:
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seeded_generator(*words: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose state depends on the given whole numbers and nothing else."""
    return torch.Generator(device).manual_seed(_hashed(*words))


def seed_dropout(seed: int, step: int, process: int) -> None:
    """Seeds torch's global generator, which dropout draws from, for one step of one process."""
    torch.manual_seed(_hashed(seed, DROPOUT, step, process))


def num_steps(training: TrainingConfig, num_images: int) -> int:
    """Optimizer steps of the whole training: `steps`, or `epochs` passes over the images."""
    if training.steps is not None:
        return training.steps
    return max(1, math.ceil(training.epochs * num_images / training.batch_size))


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, num_images: int) -> np.ndarray:
    return torch.randperm(num_images, generator=seeded_generator(seed, ORDER, epoch)).numpy()


def batch_indices(seed: int, step: int, num_images: int, batch_size: int) -> np.ndarray:
    """Images of one step: each epoch is a permutation of all, and batches run on over the end of an epoch.

    Args:
        seed: Seed of the training.
        step: Optimizer step, from 0.
        num_images: Images to choose from.
        batch_size: Images of one step over all processes.

    Returns:
        (batch_size,) indices.
    """
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = places // num_images
    orders = [
        _epoch_order(seed, epoch, num_images)[places[epochs == epoch] % num_images] for epoch in np.unique(epochs)
    ]
    return np.concatenate(orders)


def sample_batch(
    seed: int,
    step: int,
    num_images: int,
    batch_size: int,
    num_timesteps: int,
    shape: tuple[int, ...],
    flip: bool,
    device: torch.device | str = "cpu",
) -> Batch:
    """Draws one optimizer step.

    Args:
        seed: Seed of the training.
        step: Optimizer step, from 0.
        num_images: Images to choose from.
        batch_size: Images of one step over all processes.
        num_timesteps: T.
        shape: (C, h, w) of one hidden half.
        flip: Mirror half of the images.
        device: Where timesteps and noise are drawn; numbers differ between kinds of device.

    Returns:
        The draw of the whole global batch; a process takes its slice.
    """
    flips = torch.rand(batch_size, generator=seeded_generator(seed, FLIPS, step)) < (0.5 if flip else 0.0)
    generator = seeded_generator(seed, NOISE, step, device=device)
    return Batch(
        indices=batch_indices(seed, step, num_images, batch_size),
        flips=flips.to(device),
        timesteps=torch.randint(num_timesteps, (batch_size,), generator=generator, device=device),
        noise=torch.randn((batch_size, *shape), generator=generator, device=device),
    )


class MicroBatch(NamedTuple):
    """What one process feeds to the network at once.

    Args:
        images: (n, C, H, W) in [-1, 1], mirrored as drawn.
        timesteps: t, (n,) integers from 0 to T-1.
        noise: eps, (n, C, h, w).
        masks: True where hidden, (n, 1, H, W); None where the hidden half is always the same.
    """

    images: torch.Tensor
    timesteps: torch.Tensor
    noise: torch.Tensor
    masks: torch.Tensor | None


@dataclass(frozen=True)
class Batches:
    """The batches of a training, as one process sees them.

    Args:
        images: All training images, uint8 (N, H, W, C), or (N, 2H, 2W, C) to augment.
        seed: Seed of the training.
        batch_size: Images of one step over all processes.
        num_timesteps: T.
        shape: (C, h, w) of what is drawn.
        flip: Mirror half of the images.
        augment: Strength of the augmentation, 0 for none.
        device: Device of the process.
        rows: Which places of the global batch this process takes.
        num_parts: Parts that it cuts them into, to accumulate gradients.
        masked: Draw a mask for each image.
    """

    images: np.ndarray
    seed: int
    batch_size: int
    num_timesteps: int
    shape: tuple[int, ...]
    flip: bool
    augment: float
    device: torch.device
    rows: range
    num_parts: int
    masked: bool = False

    def parts(self, step: int) -> Iterator[MicroBatch]:
        """The accumulated parts of one step, from 0; each is on the device only while it is in use."""
        batch = sample_batch(
            self.seed,
            step,
            len(self.images),
            self.batch_size,
            self.num_timesteps,
            self.shape,
            self.flip,
            self.device,
        )
        masks = self._masks(step) if self.masked else None
        size = len(self.rows) // self.num_parts
        for start in self.rows[::size]:
            rows = slice(start, start + size)
            pixels = torch.from_numpy(self.images[batch.indices[rows]]).to(self.device, non_blocking=True)
            pixels = pixels.permute(0, 3, 1, 2)
            if self.augment:
                pixels = augment(pixels, self._augmentations(step)[rows].to(self.device))
            clean = to_signed(pixels)
            clean = torch.where(batch.flips[rows, None, None, None], clean.flip(-1), clean)
            own_masks = None if masks is None else masks[rows].to(self.device)
            yield MicroBatch(clean, batch.timesteps[rows], batch.noise[rows], own_masks)

    def _masks(self, step: int) -> torch.Tensor:
        _, height, width = self.shape
        return random_masks(self.batch_size, height, width, seeded_generator(self.seed, MASKS, step))

    def _augmentations(self, step: int) -> torch.Tensor:
        generator = seeded_generator(self.seed, AUGMENT, step)
        return self.augment * torch.randn(self.batch_size, NUM_PARAMETERS, generator=generator)
