"""Where a frame lies in a photo: the similarity, cutting out and pasting back."""

from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from halfface_pipeline.photo.frame import (
    Similarity,
    centred_frame,
    cut_out,
    fraction_inside,
    frame_eyes,
    paste,
    similarity,
)
from halfface_pipeline.remote_code.image_io import resize_to

HEIGHT, WIDTH = 28, 22
EYES = np.array([[7.0, 12.0], [15.0, 12.0]])


class Settings(SimpleNamespace):
    def get(self, name):
        return getattr(self, name, None)


def waves(width=200, height=240):
    """A smooth picture, whose value at a point is known."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return PIL.Image.fromarray(values(x, y).round().astype(np.uint8))


def values(x, y):
    return np.stack([128 + 60 * np.sin(x / 17), 128 + 60 * np.cos(y / 23), 128 + 50 * np.sin((x + y) / 29)], axis=-1)


def test_the_similarity_maps_the_eyes_and_its_inverse_maps_them_back():
    there = np.array([[103.0, 80.0], [131.0, 92.0]])
    place = similarity(EYES, there)
    assert np.allclose(place(EYES), there)
    assert np.allclose(place.inverse(there), EYES)
    assert place.scale == pytest.approx(np.hypot(28, 12) / 8)
    a, b, c, d, e, f = place.coefficients()
    assert np.allclose([(a * x + b * y + c, d * x + e * y + f) for x, y in EYES], there)
    points = np.random.default_rng(0).normal(size=(5, 2))
    assert np.allclose(place.after(place.inverse)(points), points)
    with pytest.raises(ValueError, match="two different points"):
        similarity(EYES, np.array([[1.0, 2.0], [1.0, 2.0]]))


def test_the_eyes_are_celebas_unless_the_model_has_its_own():
    assert np.allclose(frame_eyes(Settings(height=218, width=178)), [[69.5, 111.5], [108.5, 111.5]])
    assert np.allclose(frame_eyes(Settings(height=109, width=89)), [[34.75, 55.75], [54.25, 55.75]])
    # A narrower cut loses the same at both sides.
    assert np.allclose(frame_eyes(Settings(height=218, width=158))[:, 0], [59.5, 98.5])
    own = Settings(height=100, width=80, eyes=[0.25, 0.4, 0.75, 0.5])
    assert np.allclose(frame_eyes(own), [[20, 40], [60, 50]])


def test_the_centred_frame_is_the_cut_of_resize_to():
    photo = waves()
    place = centred_frame(photo.size, 56, 44)
    ours, theirs = cut_out(photo, place, 56, 44), resize_to(photo, 56, 44)
    assert np.abs(np.array(ours).astype(float) - np.array(theirs)).mean() < 1


@pytest.mark.parametrize("there", [[[80.0, 110.0], [115.0, 99.0]], [[70.0, 100.0], [73.0, 101.0]]])
def test_the_frame_shows_the_photo_turned_and_scaled(there):
    place = similarity(EYES, np.array(there))
    frame = np.array(cut_out(waves(), place, HEIGHT, WIDTH)).astype(float)
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    points = place(np.stack([x, y], axis=-1))
    assert np.abs(frame - values(points[..., 0], points[..., 1])).max() < 8


def test_beyond_the_photo_its_edge_goes_on():
    photo = PIL.Image.new("RGB", (40, 40), "red")
    photo.paste("blue", (0, 0, 40, 4))
    frame = np.array(cut_out(photo, Similarity(1, complex(0, -14)), HEIGHT, WIDTH))
    assert (frame[:10] == (0, 0, 255)).all() and (frame[22:] == (255, 0, 0)).all()
    assert fraction_inside(photo.size, Similarity(1, complex(0, -14)), (0, 0, WIDTH, HEIGHT)) == pytest.approx(
        0.5, abs=0.05
    )
    far = np.array(cut_out(photo, Similarity(1, complex(500, 500)), HEIGHT, WIDTH))
    assert (far == (255, 0, 0)).all()


@pytest.mark.parametrize("hidden_half", ["bottom", "top", "left", "right"])
def test_pasting_changes_the_hidden_half_alone(hidden_half):
    photo = waves()
    place = similarity(EYES, np.array([[70.0, 100.0], [110.0, 88.0]]))
    green = PIL.Image.new("RGB", (WIDTH, HEIGHT), (0, 255, 0))
    result = np.array(paste(photo, green, place, hidden_half))
    x, y = np.meshgrid(np.arange(photo.width) + 0.5, np.arange(photo.height) + 0.5)
    inside = place.inverse(np.stack([x, y], axis=-1))
    across, down = inside[..., 0] / WIDTH, inside[..., 1] / HEIGHT
    depth = {"bottom": down, "top": 1 - down, "right": across, "left": 1 - across}[hidden_half]
    other = across if hidden_half in ("bottom", "top") else down
    changed = (result != np.array(photo)).any(axis=-1)
    outside = (depth < 0.5 - 0.15) | (depth > 1.02) | (other < -0.02) | (other > 1.02)
    assert not changed[outside].any()
    middle = (depth > 0.55) & (depth < 0.85) & (other > 0.2) & (other < 0.8)
    assert middle.sum() > 500 and (result[middle] == (0, 255, 0)).all()


def test_a_frame_pasted_back_is_the_photo_again():
    photo = waves()
    place = similarity(EYES, np.array([[70.0, 100.0], [110.0, 88.0]]))
    again = paste(photo, cut_out(photo, place, HEIGHT, WIDTH), place, "bottom")
    assert np.abs(np.array(again).astype(float) - np.array(photo)).max() < 8


def test_a_frame_that_reaches_out_of_the_photo_is_pasted_where_it_is_inside():
    photo = waves()
    place = similarity(EYES, np.array([[5.0, 200.0], [45.0, 200.0]]))
    result = paste(photo, PIL.Image.new("RGB", (WIDTH, HEIGHT), (0, 255, 0)), place, "bottom")
    assert result.size == photo.size and (np.array(result)[-10:, 10:50] == (0, 255, 0)).all()
