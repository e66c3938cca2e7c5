"""Random numbers of training: each a function of (seed, step, place in the global batch)."""

import numpy as np
import pytest
import torch

from halfface_pipeline.config.schema import TrainingConfig
from halfface_pipeline.training.batches import Batches, batch_indices, num_steps, sample_batch, seed_dropout

STEP = {"num_images": 10, "batch_size": 8, "num_timesteps": 1000, "shape": (3, 2, 4), "flip": True}


def test_every_epoch_visits_every_image_once_in_an_order_of_its_own():
    visits = np.concatenate([batch_indices(0, step, num_images=10, batch_size=4) for step in range(5)])
    assert sorted(visits[:10]) == sorted(visits[10:]) == list(range(10))
    assert list(visits[:10]) != list(visits[10:])


def test_batches_larger_than_the_data_hold_whole_epochs():
    assert np.bincount(batch_indices(0, 0, num_images=3, batch_size=9)).tolist() == [3, 3, 3]


def test_a_step_is_the_same_whenever_it_is_drawn_and_other_steps_and_seeds_differ():
    first, again = sample_batch(0, 5, **STEP), sample_batch(0, 5, **STEP)
    assert np.array_equal(first.indices, again.indices) and torch.equal(first.flips, again.flips)
    assert torch.equal(first.timesteps, again.timesteps) and torch.equal(first.noise, again.noise)
    for other in (sample_batch(0, 6, **STEP), sample_batch(1, 5, **STEP)):
        assert not torch.equal(first.noise, other.noise)
        assert not torch.equal(first.timesteps, other.timesteps)


def test_draws_have_their_distributions():
    draw = sample_batch(0, 0, num_images=10, batch_size=4000, num_timesteps=1000, shape=(3, 2, 2), flip=True)
    assert (int(draw.timesteps.min()), int(draw.timesteps.max())) == (0, 999)
    assert float(draw.timesteps.double().mean()) == pytest.approx(499.5, abs=4 * 289 / 4000**0.5)
    assert float(draw.flips.double().mean()) == pytest.approx(0.5, abs=4 * 0.5 / 4000**0.5)
    assert float(draw.noise.std()) == pytest.approx(1, abs=4 / (2 * 48000) ** 0.5)
    assert float(draw.noise.mean()) == pytest.approx(0, abs=4 / 48000**0.5)


def test_without_flip_no_image_is_mirrored():
    assert not sample_batch(0, 0, **{**STEP, "flip": False}).flips.any()


def test_masks_are_alike_in_every_process_and_shift_no_other_number():
    def drawn(rows, num_parts=1, step=3, masked=True):
        images, device = np.zeros((10, 20, 16, 3), np.uint8), torch.device("cpu")
        return list(Batches(images, 0, 8, 1000, (3, 20, 16), True, 0.0, device, rows, num_parts, masked).parts(step))

    (whole,) = drawn(range(8))
    assert whole.masks.shape == (8, 1, 20, 16)
    parts = [*drawn(range(4), 2), *drawn(range(4, 8), 2)]
    assert torch.equal(torch.cat([part.masks for part in parts]), whole.masks)
    assert not torch.equal(drawn(range(8), step=4)[0].masks, whole.masks)
    (plain,) = drawn(range(8), masked=False)
    assert plain.masks is None
    assert torch.equal(plain.noise, whole.noise) and torch.equal(plain.timesteps, whole.timesteps)


def test_dropout_is_seeded_by_step_and_process():
    def drawn(*words):
        seed_dropout(*words)
        return torch.rand(3)

    assert torch.equal(drawn(0, 1, 0), drawn(0, 1, 0))
    assert not torch.equal(drawn(0, 1, 0), drawn(0, 1, 1))
    assert not torch.equal(drawn(0, 1, 0), drawn(0, 2, 0))


def test_length_is_steps_or_whole_epochs():
    assert num_steps(TrainingConfig(steps=7, epochs=3), 1000) == 7
    assert num_steps(TrainingConfig(epochs=3, batch_size=64), 1000) == 47
    assert num_steps(TrainingConfig(epochs=252, batch_size=128), 162_770) == 320_454
