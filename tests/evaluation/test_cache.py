"""Completions that go on where they were cut short, and are drawn anew when anything that went in changes."""

import numpy as np
import PIL.Image
import pytest
import torch

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data.images import load_images
from halfface_pipeline.diffusion.samplers import make_sampler
from halfface_pipeline.evaluation.cache import Completions
from halfface_pipeline.evaluation.trials import complete, load_trial, plain_trial

DATA = DataConfig(height=20, width=16, num_eval_images=6)


@pytest.fixture
def parts():
    faces = load_images(DATA, "eval", progress=False)
    return [plain_trial(faces, "bottom", range(first, first + 2)) for first in (0, 2, 4)]


def test_parts_are_what_the_whole_would_be_and_come_back_from_disk(tiny_pipeline, parts, tmp_path, monkeypatch):
    pipe = tiny_pipeline()
    whole = complete(pipe, load_trial(pipe, DATA, 6, 1), 2, 2, seed=5, batch_size=4)[1]
    store = Completions(pipe, tmp_path, "data", 2, 2, batch_size=4)
    assert store.faces_at_once == 2
    drawn = [store.draw(part, 2 * place, seed=5) for place, part in enumerate(parts)]
    assert torch.equal(torch.cat([part.hidden for part in drawn]), whole)
    assert bool(torch.cat([part.visible_kept for part in drawn]).all())
    assert len(list(store.folder.iterdir())) == 3

    monkeypatch.setattr(type(pipe), "__call__", lambda *_, **__: pytest.fail("nothing is to be drawn"))
    again = Completions(pipe, tmp_path, "data", 2, 2, batch_size=4)
    for place, part in enumerate(parts):
        kept = again.draw(part, 2 * place, seed=5)
        assert torch.equal(kept.hidden, drawn[place].hidden)
        assert torch.equal(kept.visible_kept, drawn[place].visible_kept)


def test_a_damaged_part_is_drawn_again(tiny_pipeline, parts, tmp_path):
    store = Completions(tiny_pipeline(), tmp_path, "data", 2, 2)
    first = store.draw(parts[0], 0, 0)
    file = next(store.folder.iterdir())
    whole = file.read_bytes()
    for broken in (b"", whole[: len(whole) // 2], b"not an archive"):
        file.write_bytes(broken)
        assert torch.equal(store.draw(parts[0], 0, 0).hidden, first.hidden)
        assert file.read_bytes() == whole


def test_whatever_changes_a_completion_changes_the_folder(tiny_pipeline, tmp_path):
    def folder(change=None, data="data", num=2, steps=2, **pipeline):
        pipe = tiny_pipeline(**pipeline)
        if change:
            change(pipe)
        return Completions(pipe, tmp_path, data, num, steps).folder

    def other_weights(pipe):
        next(pipe.unet.parameters()).data[0] += 1e-3

    def other_sampler(pipe):
        pipe.scheduler = make_sampler("dpm++", pipe.scheduler)

    folders = [
        folder(),
        folder(other_weights),
        folder(other_sampler),
        folder(data="other"),
        folder(num=3),
        folder(steps=3),
        folder(hidden_half="top"),
        folder(known_layout="stacked"),
    ]
    assert len(set(folders)) == len(folders) and folder() == folders[0]


def test_a_visible_pixel_that_changed_is_noticed(tiny_pipeline, parts, tmp_path, monkeypatch):
    pipe = tiny_pipeline()
    call = type(pipe).__call__

    def touched(*args, **kwargs):
        result = call(*args, **kwargs)
        image = np.array(result.images[1])
        image[0, 0, 0] ^= 1
        result.images[1] = PIL.Image.fromarray(image)
        return result

    monkeypatch.setattr(type(pipe), "__call__", touched)
    drawn = Completions(pipe, tmp_path, "data", 2, 1).draw(parts[0], 0, 0)
    assert drawn.visible_kept.tolist() == [[True, False], [True, True]]


def test_a_model_that_gives_no_numbers_is_told_so(tiny_pipeline, parts, tmp_path):
    pipe = tiny_pipeline()
    next(pipe.unet.parameters()).data.fill_(torch.nan)
    store = Completions(pipe, tmp_path, "data", 2, 2)
    with pytest.raises(ValueError, match="not finite numbers at step 1 of DDPMScheduler"):
        store.draw(parts[0], 0, 0)
    assert not store.folder.exists()
