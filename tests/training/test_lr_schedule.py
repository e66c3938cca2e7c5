"""Learning rates against closed forms and torch's own scheduler."""

import math

import pytest
import torch

from halfface_pipeline.config.schema import LRScheduleConfig
from halfface_pipeline.training.lr_schedule import learning_rate


@pytest.mark.parametrize(("first_period", "multiplier"), [(2, 2), (1, 1), (3, 1), (1, 3)])
def test_restarts_equal_torchs_scheduler_in_fractions_of_an_epoch(first_period, multiplier):
    schedule = LRScheduleConfig(
        kind="cosine_restarts", first_period=first_period, period_multiplier=multiplier, min_lr=1e-5
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=9e-4)
    reference = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, first_period, multiplier, eta_min=1e-5)
    for step in range(200):
        reference.step(step / 7)
        mine = learning_rate(schedule, 9e-4, step, 200, steps_per_epoch=7)
        assert mine == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), step


def test_reports_restarts_come_after_2_6_14_epochs():
    schedule = LRScheduleConfig(kind="cosine_restarts", first_period=2, period_multiplier=2)
    rates = [learning_rate(schedule, 1.0, step, 150, steps_per_epoch=10) for step in range(150)]
    assert [step / 10 for step in range(150) if rates[step] == 1.0] == [0, 2, 6, 14]


def test_cosine_warms_up_linearly_and_ends_at_the_lowest():
    schedule = LRScheduleConfig(kind="cosine", warmup_steps=4, min_lr=0.1)
    rates = [learning_rate(schedule, 1.0, step, 24, steps_per_epoch=5) for step in range(24)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[14] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2)
    assert rates[-1] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 19 / 20)) / 2)
    assert learning_rate(schedule, 1.0, 24, 24, steps_per_epoch=5) == pytest.approx(0.1)


def test_linear_warms_up_and_falls_to_the_lowest():
    schedule = LRScheduleConfig(kind="linear", warmup_steps=4, min_lr=0.1)
    rates = [learning_rate(schedule, 1.0, step, 24, steps_per_epoch=5) for step in range(25)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[4:] == pytest.approx([1.0 - 0.9 * step / 20 for step in range(21)])


def test_constant_stays():
    rates = {learning_rate(LRScheduleConfig(kind="constant"), 2e-4, step, 10, 3) for step in range(10)}
    assert rates == {2e-4}
