"""Augmentation of whole images: exact shifts, rotations, colours, and sharpness kept."""

import math

import numpy as np
import PIL.Image
import pytest
import torch

from halfface_pipeline.training.augment import HUE, NUM_PARAMETERS, ROTATION, SATURATION, SHIFT, augment, halve
from halfface_pipeline.training.batches import Batches

ANGLE, SCALE, X, Y, BRIGHTNESS, CONTRAST, SATURATE, TURN = range(NUM_PARAMETERS)


def parameters(**given: float) -> torch.Tensor:
    names = {name: place for name, place in globals().items() if isinstance(place, int) and name.isupper()}
    row = torch.zeros(1, NUM_PARAMETERS)
    for name, value in given.items():
        row[0, names[name]] = value
    return row


def test_without_changes_the_image_is_what_pillow_reduces():
    large = torch.randint(100, 156, (1, 3, 48, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    picture = PIL.Image.fromarray(large[0].permute(1, 2, 0).numpy()).resize((20, 24), PIL.Image.Resampling.LANCZOS)
    reduced = augment(large, parameters())[0].permute(1, 2, 0) * 255
    inside = (slice(3, -3), slice(3, -3))
    assert np.abs(reduced.numpy() - np.asarray(picture, float))[inside].max() <= 1


def test_a_shift_moves_the_image_by_a_fraction_of_its_sides():
    large = torch.zeros(1, 3, 80, 40, dtype=torch.uint8)
    large[..., 40:42, 20:22] = 255
    moved = augment(large, parameters(X=0.1 / SHIFT, Y=-0.05 / SHIFT))
    # What is sampled at place p comes from p + shift: the dot moves the other way, 2 columns left, 2 rows down.
    assert moved[0, 0].argmax() == augment(large, parameters())[0, 0].roll((2, -2), (0, 1)).argmax()


def test_a_rotation_keeps_distances_in_images_that_are_not_square():
    large = torch.zeros(1, 1, 160, 80, dtype=torch.uint8)
    large[..., 79:81, 71:73] = 255  # 32 pixels right of the centre of 160x80, 16 of 80x40
    rotated = augment(large, parameters(ANGLE=math.radians(90) / ROTATION))[0, 0]
    row, column = divmod(rotated[20:60].argmax().item(), 40)  # what lies beyond is a reflection
    assert abs(abs(row - 19.5) - 16) <= 1 and abs(column - 19.5) <= 1


def test_hue_turns_about_grey_and_saturation_scales_what_is_not_grey():
    colour = torch.tensor([180, 120, 90], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    third = augment(colour, parameters(TURN=math.radians(120) / HUE))[0, :, 8, 8] * 255
    assert sorted(third.tolist()) == pytest.approx([90, 120, 180], abs=0.1)
    assert third.tolist() != pytest.approx([180, 120, 90], abs=1)
    twice = augment(colour, parameters(SATURATE=math.log(1.5) / SATURATION))[0, :, 8, 8] * 255
    assert twice.tolist() == pytest.approx([130 + 1.5 * 50, 130 - 1.5 * 10, 130 - 1.5 * 40], abs=0.1)
    grey = torch.full((1, 3, 32, 32), 130, dtype=torch.uint8)
    assert torch.allclose(augment(grey, parameters(SATURATE=3, TURN=3)), augment(grey, parameters()), atol=1e-5)


def test_grey_images_have_no_colours_to_change():
    grey = torch.full((1, 1, 32, 32), 130, dtype=torch.uint8)
    assert torch.allclose(augment(grey, parameters(SATURATE=3, TURN=3)), halve(grey / 255), atol=1e-5)


def test_an_image_is_changed_alike_in_every_process_and_otherwise_in_every_step():
    images = np.random.default_rng(0).integers(256, size=(8, 64, 64, 3), dtype=np.uint8)

    def drawn(rows: range, step: int = 0) -> torch.Tensor:
        batches = Batches(images, 0, 8, 10, (3, 16, 32), False, 1.0, torch.device("cpu"), rows, 1)
        return next(batches.parts(step)).images

    whole = drawn(range(8))
    assert whole.shape == (8, 3, 32, 32) and float(whole.min()) >= -1 and float(whole.max()) <= 1
    assert torch.allclose(drawn(range(4, 8)), whole[4:], atol=1e-6)
    assert not torch.allclose(drawn(range(8), step=1), whole, atol=0.1)
