"""Completions as they come: `halfface_pipeline.app.drawing`."""

import threading
import time

import numpy as np
import pytest
import torch

from halfface_pipeline.app import drawing
from halfface_pipeline.app.drawing import draw, with_scheduler
from halfface_pipeline.diffusion.samplers import make_sampler


@pytest.fixture
def half():
    return np.random.default_rng(0).integers(0, 256, (10, 16, 3), dtype=np.uint8)


def own(pipe, name="ddpm"):
    return with_scheduler(pipe, make_sampler(name, pipe.scheduler))


@pytest.mark.parametrize("name", ["ddpm", "dpm++", "euler-a", "heun"])
def test_completion_k_is_the_first_draw_of_seed_plus_k(tiny_pipeline, half, name):
    pipe = own(tiny_pipeline(), name)
    finished = [moment.image for moment in draw(pipe, half, 3, 4, seed=5) if moment.finished]
    for k, image in enumerate(finished):
        again = pipe(half, num_inference_steps=4, generator=torch.Generator().manual_seed(5 + k)).images[0]
        assert np.array_equal(image, again)
    assert len(finished) == 3 and not np.array_equal(finished[0], finished[1])


@pytest.mark.parametrize("hidden_half", ["bottom", "top", "left", "right"])
def test_what_is_in_work_shows_the_known_half_and_counts_the_steps(tiny_pipeline, hidden_half, monkeypatch):
    monkeypatch.setattr(drawing, "SECONDS_BETWEEN_LOOKS", 0)
    pipe = own(tiny_pipeline(hidden_half=hidden_half), "heun")  # heun: 2 N - 1 timesteps
    half = np.full((*pipe.half_size, 3), 200, np.uint8)
    moments = list(draw(pipe, half, 2, 3, seed=0))
    assert [(moment.done, moment.finished) for moment in moments] == [
        *((step, False) for step in range(1, 6)),
        (5, True),
        *((step, False) for step in range(6, 11)),
        (10, True),
    ]
    assert {moment.total for moment in moments} == {10}
    for moment in moments:
        assert moment.image.size == (16, 20)
        assert (np.array(moment.image) == 200).mean() >= 0.5


def test_closing_the_iterator_ends_the_work(tiny_pipeline, half):
    moments = draw(own(tiny_pipeline()), half, 1000, 1000, seed=0)
    next(moments)
    moments.close()
    end = time.monotonic() + 5
    while any(thread.name == "halfface-draw" for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_error_in_the_work_is_raised_where_the_moments_are_read(tiny_pipeline, half):
    with pytest.raises(ValueError, match="num_inference_steps is 3"):
        list(draw(own(tiny_pipeline(), "ddim"), half, 1, 3, seed=0))


def test_two_can_draw_on_one_network_at_the_same_time(tiny_pipeline, half):
    pipe = tiny_pipeline()
    alone = [moment.image for moment in draw(own(pipe), half, 2, 20, seed=1) if moment.finished]
    first, second = draw(own(pipe), half, 2, 20, seed=1), draw(own(pipe, "dpm++"), half, 2, 20, seed=1)
    together = [next(moment for moment in first if moment.finished).image]  # the second completion is now in work
    list(second)
    together += [moment.image for moment in first if moment.finished]
    assert all(np.array_equal(*pair) for pair in zip(alone, together, strict=True))
