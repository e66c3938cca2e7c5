"""The forward process and the schedules in figures."""

import math

import numpy as np
import pytest
import torch

from halfface_pipeline.config.schema import NoiseConfig
from halfface_pipeline.diffusion.samplers import training_scheduler
from halfface_pipeline.experiments.noise_levels import forward_process, schedules, steps_of_size

PROCESS = training_scheduler(NoiseConfig(), "epsilon").config


def test_forward_process_of_a_grey_face():
    face = np.full((48, 40, 3), 128, np.uint8)
    result = forward_process(PROCESS, face, num_pictures=4)
    assert [row["t"] for row in result.rows] == [1, 334, 667, 1000]
    assert result.rows[0]["signal"] == pytest.approx(math.sqrt(1 - 1e-4), abs=1e-12)
    abar = math.prod(1 - (1e-4 + 0.0199 * i / 999) for i in range(334))
    assert result.rows[1]["noise"] == pytest.approx(math.sqrt(1 - abar), abs=1e-10)
    assert result.rows[1]["log_snr"] == pytest.approx(math.log(abar / (1 - abar)), abs=1e-8)
    picture = np.asarray(result.picture)
    faces = [picture[16 : 16 + 96, 4 + 84 * i : 84 * i + 84] for i in range(5)]
    spreads = [float(face.std()) for face in faces]
    assert spreads[0] == 0 and spreads == sorted(spreads)
    # At t = 1 noise of deviation 0.01 in [-1, 1] is 1.3 grey levels, before the picture is enlarged.
    assert 0.5 < spreads[1] < 1.5


def test_mismatch_of_the_reports_schedules():
    result = schedules(PROCESS, [2, 40, 50])
    rows = {row["step_size"]: row for row in result.rows}
    assert list(rows) == [1, 2, 40, 50]
    assert rows[1]["largest_mismatch_nats"] == 0 and rows[1]["largest_offset_in_timesteps"] == 0
    assert rows[40]["steps"] == 25 and rows[40]["last_beta"] == pytest.approx(1e-4 + 0.0199 * 40)
    # At t'/T' = t/T the largest offset is one step less than that of t = k s, found by measurement: 168 and 217.
    assert rows[40]["largest_offset_in_timesteps"] == pytest.approx(168 - 39, abs=1)
    assert rows[50]["largest_offset_in_timesteps"] == pytest.approx(217 - 49, abs=1)
    steps = [row for row in result.details["steps"] if row["step_size"] == 40]
    assert [row["step"] for row in steps] == list(range(25, 0, -1))
    last, before = steps[-1], steps[-2]
    assert last["beta"] == pytest.approx(1e-4) and before["beta"] == pytest.approx(1e-4 + (0.7961 - 1e-4) / 24)
    told = math.prod(1 - (1e-4 + 0.0199 * i / 999) for i in range(40))
    mismatch = math.log((1 - 1e-4) / 1e-4) - math.log(told / (1 - told))
    assert last["mismatch_nats"] == pytest.approx(mismatch, abs=1e-8)


def test_step_size_1_is_the_trained_schedule():
    for matching in ("proportional", "log_snr", "exact"):
        scheduler = steps_of_size(PROCESS, 1, matching, "fixed_large")
        assert scheduler.timesteps.tolist() == list(range(999, -1, -1))
        assert torch.equal(scheduler.steps.alphas_cumprod.flip(0), scheduler.trained_alphas_cumprod)
    assert steps_of_size(PROCESS, 40, "exact").timesteps.tolist() == list(range(999, 38, -40))


@pytest.mark.parametrize("size", [3, 0, 100, 1001])
def test_impossible_step_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"step size is {size}; it must divide|below 50.2"):
        schedules(PROCESS, [size])
