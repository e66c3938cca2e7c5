"""Completions that go on where they were cut short, and are drawn anew when anything that went in changes."""

from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch

from halfface_pipeline.config.schema import DataConfig, SamplingConfig
from halfface_pipeline.data.images import load_images
from halfface_pipeline.diffusion.samplers import make_sampler
from halfface_pipeline.evaluation.cache import Completions, complete

DATA = DataConfig(height=20, width=16, num_eval_images=6)
SAMPLING = SamplingConfig(num_inference_steps=2, num_completions=2, seed=5)


@pytest.fixture
def parts():
    return load_images(DATA, "eval", progress=False).images.reshape(3, 2, 20, 16, 3)


def test_parts_equal_the_whole_and_are_cached(tiny_pipeline, parts, tmp_path, monkeypatch):
    pipe = tiny_pipeline()
    whole = complete(pipe, parts.reshape(6, 20, 16, 3), SAMPLING, batch_size=4)[1]
    store = Completions(pipe, tmp_path, "data", SAMPLING, batch_size=4)
    drawn = [store.complete(part, 2 * place, seed=5) for place, part in enumerate(parts)]
    assert torch.equal(torch.cat([part.hidden for part in drawn]), whole)
    assert bool(torch.cat([part.visible_kept for part in drawn]).all())
    assert len(list(store.folder.iterdir())) == 3

    monkeypatch.setattr(type(pipe), "__call__", lambda *_, **__: pytest.fail("everything is in the cache"))
    again = Completions(pipe, tmp_path, "data", SAMPLING, batch_size=4)
    for place, part in enumerate(parts):
        kept = again.complete(part, 2 * place, seed=5)
        assert torch.equal(kept.hidden, drawn[place].hidden)
        assert torch.equal(kept.visible_kept, drawn[place].visible_kept)


def test_a_damaged_file_is_replaced(tiny_pipeline, parts, tmp_path):
    store = Completions(tiny_pipeline(), tmp_path, "data", SAMPLING)
    first = store.complete(parts[0], 0, 0)
    file = next(store.folder.iterdir())
    whole = file.read_bytes()
    for broken in (b"", whole[: len(whole) // 2], b"not an archive"):
        file.write_bytes(broken)
        assert torch.equal(store.complete(parts[0], 0, 0).hidden, first.hidden)
        assert file.read_bytes() == whole


def test_settings_have_folders_of_their_own(tiny_pipeline, tmp_path):
    def folder(change=None, data="data", batch_size=32, sampling=SAMPLING, **pipeline):
        pipe = tiny_pipeline(**pipeline)
        if change:
            change(pipe)
        return Completions(pipe, tmp_path, data, sampling, batch_size).folder

    def other_weights(pipe):
        next(pipe.unet.parameters()).data[0] += 1e-3

    def other_sampler(pipe):
        pipe.scheduler = make_sampler("dpm++", pipe.scheduler)

    folders = [
        folder(),
        folder(other_weights),
        folder(other_sampler),
        folder(data="other"),
        folder(sampling=replace(SAMPLING, num_completions=3)),
        folder(sampling=replace(SAMPLING, num_inference_steps=3)),
        folder(batch_size=16),
        folder(hidden_half="top"),
        folder(known_layout="stacked"),
    ]
    assert len(set(folders)) == len(folders) and folder() == folders[0]


def test_changed_visible_pixels_are_noticed(tiny_pipeline, parts, tmp_path, monkeypatch):
    pipe = tiny_pipeline()
    call = type(pipe).__call__

    def touched(*args, **kwargs):
        result = call(*args, **kwargs)
        image = np.array(result.images[1])
        image[0, 0, 0] ^= 1
        result.images[1] = PIL.Image.fromarray(image)
        return result

    monkeypatch.setattr(type(pipe), "__call__", touched)
    drawn = Completions(pipe, tmp_path, "data", SAMPLING).complete(parts[0], 0, 0)
    assert drawn.visible_kept.tolist() == [[True, False], [True, True]]


def test_values_that_are_not_finite_are_refused(tiny_pipeline, parts, tmp_path):
    pipe = tiny_pipeline()
    next(pipe.unet.parameters()).data.fill_(torch.nan)
    store = Completions(pipe, tmp_path, "data", SAMPLING)
    with pytest.raises(ValueError, match="not finite"):
        store.complete(parts[0], 0, 0)
    assert not store.folder.exists()


def test_the_seed_fixes_the_initial_noise(tiny_pipeline):
    """Samplers and batch sizes get the same noise, faces and seeds different noise."""
    pipe = tiny_pipeline(48, 40)
    images = load_images(replace(DATA, height=48, width=40), "eval", progress=False).images[:3]
    trained, starts = pipe.scheduler, []
    pipe.unet.register_forward_pre_hook(lambda module, given: starts.append(given[0][:, :3].clone()))

    def noise(sampler, sampling, **options):
        starts.clear()
        pipe.scheduler = make_sampler(sampler, trained)
        wholes, hidden = complete(pipe, images, sampling, **options)
        assert len(wholes) == 6 and hidden.shape == (3, 2, 3, 24, 40) and hidden.dtype == torch.uint8
        return torch.cat(starts[:: sampling.num_inference_steps]), hidden

    first, hidden = noise("ddpm", SAMPLING, batch_size=6)
    torch.testing.assert_close(noise("dpm++", SAMPLING, batch_size=6)[0], first)
    small, again = noise("ddpm", SAMPLING, batch_size=2)
    torch.testing.assert_close(small, first)
    assert int((again.int() - hidden.int()).abs().max()) <= 1
    others = [first, noise("ddpm", replace(SAMPLING, seed=6))[0], noise("ddpm", SAMPLING, first=3)[0]]
    correlation = torch.cat(others).flatten(1).corrcoef() - torch.eye(18)
    assert correlation.abs().max() < 0.1
