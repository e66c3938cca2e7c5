"""Evaluation sets, exact samples, and faces that the model was trained on."""

import os
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch

from halfface_pipeline.config.files import to_yaml
from halfface_pipeline.config.schema import Config, DataConfig
from halfface_pipeline.data.images import load_images
from halfface_pipeline.data.procedural import faces, render
from halfface_pipeline.evaluation.dataset import (
    draw_exact_samples,
    evaluation_data,
    factors_of,
    find_trained_on,
    load_batch,
    load_faces,
    make_batch,
)
from halfface_pipeline.evaluation.measure import scores

DATA = DataConfig(height=48, width=40, num_images=5, num_eval_images=6)


def test_exact_samples_differ_in_free_factors():
    samples = draw_exact_samples(factors_of(DATA, 2), 48, 40, num_samples=3)
    assert samples.shape == (2, 3, 3, 24, 40)
    assert not torch.equal(samples[0, 0], samples[0, 1]) and not torch.equal(samples[0, 0], samples[1, 0])


@pytest.mark.parametrize(("split", "num"), [("eval", 6), ("train", 5)])
def test_exact_samples_score_the_floor(tiny_pipeline, split, num):
    batch = load_batch(tiny_pipeline(48, 40), DATA, num, 3, split)
    assert batch.exact.shape == (num, 3, 3, 24, 40)
    np.testing.assert_array_equal(batch.images, render(batch.factors, 48, 40))
    assert scores(batch, batch.exact)["determined_pixel_error"] < 2e-3
    assert scores(batch, batch.truth[:, None])["determined_pixel_error"] == 0
    assert scores(batch, batch.truth.roll(1, 0)[:, None])["determined_pixel_error"] > 0.05
    assert "spread" not in scores(batch, batch.truth[:, None])


def test_parts_hold_their_own_faces(tiny_pipeline):
    part = make_batch(load_faces(DATA, 6), "bottom", DATA, range(2, 5), 2)
    whole = load_batch(tiny_pipeline(48, 40), DATA, 6, 2)
    np.testing.assert_array_equal(part.images, whole.images[2:5])
    assert torch.equal(part.truth, whole.truth[2:5])
    np.testing.assert_array_equal(part.factors.skin, whole.factors.skin[2:5])
    assert float((part.determined == whole.determined[2:5]).float().mean()) > 0.97  # found by other samples
    assert scores(part, part.exact)["determined_pixel_error"] < 2e-3


def write_photos(folder, images, start=0):
    folder.mkdir(parents=True)
    for row, face in enumerate(images, start):
        PIL.Image.fromarray(face).save(folder / f"{row:03d}.png")
    return DataConfig("imagefolder", str(folder), holdout=0.5, height=48, width=40)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A run that was trained on half of the pictures in `photos`."""
    monkeypatch.chdir(tmp_path)
    data = write_photos(tmp_path / "photos", faces(12, 48, 40)[0])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(to_yaml(Config(data=replace(data, path="photos"))))
    os.symlink(tmp_path / "photos", tmp_path / "link")
    return replace(data, path="photos")


@pytest.mark.parametrize("spelling", ["photos", "photos/", "./photos", "run/../photos", "link", "absolute"])
def test_the_training_folder_gives_its_held_out_part(trained, tmp_path, tiny_pipeline, spelling):
    name = str(tmp_path / "photos") if spelling == "absolute" else spelling
    data = evaluation_data(name, "run", tiny_pipeline(48, 40))
    assert data == evaluation_data(None, "run", tiny_pipeline(48, 40))
    assert len(load_images(data, "eval", progress=False)) < 12


def test_training_pictures_elsewhere_are_refused(trained, tmp_path, tiny_pipeline):
    train_faces = load_images(trained, "train", progress=False)
    other = write_photos(tmp_path / "other", [train_faces.images[2], *faces(5, 48, 40, start=50)[0]])
    data = evaluation_data("other", "run", tiny_pipeline(48, 40))
    assert data == replace(other, path="other", holdout=1.0, on_bad_image="skip")
    found = load_images(data, "eval", progress=False)
    with pytest.raises(ValueError, match=r"--data is 'other'; 1 of 6 faces in it are pictures .*\(000.png\)"):
        find_trained_on(found, 6, data, train_faces, trained)
    position = found.names.index("000.png")
    fewer = replace(found, images=found.images[position + 1 :], names=found.names[position + 1 :])
    assert find_trained_on(fewer, len(fewer), data, train_faces, trained) == ()


def test_duplicates_across_the_parts_are_named(trained, tmp_path):
    held_out = load_images(trained, "eval", progress=False)
    train_faces = load_images(trained, "train", progress=False)
    assert find_trained_on(held_out, len(held_out), trained, train_faces, trained) == ()
    twice = replace(held_out, images=np.concatenate([held_out.images[1:], train_faces.images[:1]]))
    found = find_trained_on(twice, len(held_out), trained, train_faces, trained)
    assert found == held_out.names[-1:]
    assert find_trained_on(twice, len(held_out) - 1, trained, train_faces, trained) == ()
