"""Other faces' halves, the nearest training face, the mean."""

import numpy as np
import pytest
import torch

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data.images import ImageSet, load_images
from halfface_pipeline.diffusion.halves import split
from halfface_pipeline.evaluation.baselines import NearestTraining, mean_completion, mirrored, other_half

DATA = DataConfig(height=48, width=40, num_images=300, num_eval_images=5)


def halves(images, hidden_half="bottom"):
    return split(torch.from_numpy(np.array(images)).permute(0, 3, 1, 2), hidden_half)


def test_another_face_is_the_one_before_whatever_the_part_asked_about():
    faces = load_images(DATA, "eval", progress=False)
    for hidden_half in ("bottom", "left"):
        truth = halves(faces.images, hidden_half)[1]
        found = torch.cat([other_half(faces, hidden_half, rows, 5) for rows in (range(0, 3), range(3, 5))])
        assert torch.equal(found[:, 0], truth.roll(1, 0))


def test_the_nearest_training_face_is_found():
    faces = load_images(DATA, "train", progress=False)
    nearest = NearestTraining(faces, "bottom", 10_000)
    assert nearest.num_training == 300
    rows = [3, 299, 260]
    known, truth = halves(faces.images[rows])
    brighter = (known.int() + 3).clamp(max=255).to(torch.uint8)
    assert torch.equal(nearest.half(brighter)[:, 0], truth)
    assert not torch.equal(NearestTraining(faces, "bottom", 200).half(known)[1:, 0], truth[1:])


def test_the_mean_completion_is_rounded():
    hidden = torch.tensor([10, 11, 13, 17], dtype=torch.uint8).view(1, 4, 1, 1, 1).expand(1, 4, 3, 2, 2)
    assert mean_completion(hidden).unique().tolist() == [13]
    assert mean_completion(hidden).shape == (1, 1, 3, 2, 2) and mean_completion(hidden).dtype == torch.uint8


def test_a_set_that_lies_in_memory_will_do():
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    faces = ImageSet(images, tuple("abcdef"), {}, "", ())
    assert torch.equal(
        NearestTraining(faces, "right", 6).half(halves(images, "right")[0])[:, 0], halves(images, "right")[1]
    )


@pytest.mark.parametrize(("hidden_half", "axis"), [("bottom", -2), ("top", -2), ("left", -1), ("right", -1)])
def test_a_known_half_is_completed_by_its_mirror_image(hidden_half, axis):
    faces = torch.randint(256, (2, 3, 8, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    known, _ = split(faces, hidden_half)
    whole = mirrored(known, hidden_half)
    assert whole.shape == faces.shape and torch.equal(whole, whole.flip(axis))
    assert torch.equal(split(whole, hidden_half)[0], known)
