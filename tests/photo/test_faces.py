"""Faces and eyes in a picture of a synthetic person, and where there are none."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from halfface_pipeline.photo import faces as module
from halfface_pipeline.photo.faces import can_find_faces, find_faces
from halfface_pipeline.photo.frame import Similarity

EYES = np.array([[176.2, 202.7], [257.7, 189.7]])
"""Centres of the irises of selfie.jpg, marked by hand."""


@pytest.fixture(scope="module")
def selfie():
    return PIL.Image.open(Path(__file__).with_name("selfie.jpg")).convert("RGB")


def worst(found, marked):
    """Distance of the worse eye in distances of the eyes."""
    return np.linalg.norm(found - marked, axis=1).max() / np.linalg.norm(marked[1] - marked[0])


def turned(picture, degrees, scale=1.0, size=(900, 900), middle=(450, 450)):
    """A picture turned about its middle and laid into a grey scene, and where its points lie there."""
    turn = scale * np.exp(1j * np.deg2rad(degrees))
    place = Similarity(turn, complex(*middle) - turn * complex(picture.width / 2, picture.height / 2))
    how = (size, PIL.Image.Transform.AFFINE, place.inverse.coefficients(), PIL.Image.Resampling.BICUBIC)
    scene = PIL.Image.new("RGB", size, "grey")
    scene.paste(picture.transform(*how), mask=PIL.Image.new("L", picture.size, 255).transform(*how))
    return scene, place


@pytest.mark.parametrize("degrees", [-30, 0, 15, 30])
def test_eyes_are_found_within_six_percent_of_their_distance(selfie, degrees):
    scene, place = turned(selfie, degrees)
    (face,) = find_faces(scene)
    assert worst(face.eyes, place(EYES)) < 0.06 and face.score > 0.9
    assert face.eye_distance == pytest.approx(82.5, rel=0.05)


def test_of_two_faces_the_larger_comes_first(selfie):
    scene, small = turned(selfie, 0, 0.5, (1000, 700), (850, 350))
    large = Similarity(1, 30 + 30j)
    scene.paste(selfie, (30, 30))
    first, second = find_faces(scene)
    assert worst(first.eyes, large(EYES)) < 0.06 and worst(second.eyes, small(EYES)) < 0.06


def test_a_huge_picture_costs_what_a_small_one_does(selfie, monkeypatch):
    seen = []
    detect = module.detect
    monkeypatch.setattr(module, "detect", lambda image, side: (seen.append(image.shape), detect(image, side))[1])
    huge = selfie.resize((selfie.width * 8, selfie.height * 8), PIL.Image.Resampling.BILINEAR)
    (face,) = find_faces(huge)
    assert max(seen[0]) == module.MOST_PIXELS and worst(face.eyes, EYES * 8) < 0.06


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (200, 200), (3000, 2)])
def test_a_picture_without_a_face_has_none(size):
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    assert find_faces(PIL.Image.fromarray(noise)) == [] == find_faces(PIL.Image.new("RGB", size))


def test_a_face_too_small_to_search_for_is_not_found(selfie):
    scene, _ = turned(selfie, 0, 0.05, (1000, 1000), (500, 500))
    assert find_faces(scene) == []


def test_a_face_cut_by_the_border_is_found_while_the_eyes_are_in(selfie):
    left = 130
    (face,) = find_faces(selfie.crop((left, 0, *selfie.size)))
    assert worst(face.eyes, EYES - (left, 0)) < 0.1


def test_without_the_extra_the_error_says_what_to_do(selfie, monkeypatch):
    monkeypatch.setattr(module, "NEEDS", ("no_such_package",))
    assert not can_find_faces()
    with pytest.raises(ValueError, match=r"pip install 'halfface-pipeline\[photo\]'.*--crop"):
        find_faces(selfie)
