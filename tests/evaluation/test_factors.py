"""Free factors read off faces whose factors are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data.procedural import render
from halfface_pipeline.data.procedural.factors import CLOTHING_COLOURS, HAIR_COLOURS, records, resample_free
from halfface_pipeline.evaluation.dataset import factors_of
from halfface_pipeline.evaluation.factors import (
    CLASSES,
    NUM_TEMPLATES,
    draw_templates,
    hair_colours,
    labels_of,
    predict_factors,
)


def bottoms(factors, height, width):
    return torch.from_numpy(render(factors, height, width)[:, height // 2 :]).permute(0, 3, 1, 2)


def test_labels_are_those_the_faces_are_drawn_from():
    factors = factors_of(DataConfig(), 60)
    labels, told = labels_of(factors), records(factors)
    assert [list(CLASSES["neckline"])[place] for place in labels["neckline"]] == [
        record["neckline"] for record in told
    ]
    colours = np.array(list(CLOTHING_COLOURS.values()))[labels["clothing"]]
    ratio = factors.clothing / colours
    assert np.ptp(ratio, axis=1).max() < 1e-5 and ratio.min() > 0.89 and ratio.max() < 1.11
    for record, mouth, beard, lipstick in zip(told, labels["mouth"], labels["beard"], labels["lipstick"], strict=True):
        assert mouth == (record["mouth_gap"] > 0)
        assert beard == (-1 if record["long_hair"] else record["beard"] > 0)
        assert lipstick == ((record["lipstick"] > 0) if record["long_hair"] else -1)


@pytest.mark.parametrize("size", [(48, 40), (96, 80)])
def test_exact_samples_are_read_rightly(size):
    factors = factors_of(DataConfig(), 32)
    templates = draw_templates(factors, *size)
    assert templates.images.shape[1] == NUM_TEMPLATES == 32 and templates.size == (24, 40)
    generator = np.random.default_rng(7)
    drawn = [resample_free(factors, generator) for _ in range(3)]
    read = predict_factors(templates, torch.stack([bottoms(each, *size) for each in drawn], dim=1))
    for name in CLASSES:
        truth = torch.from_numpy(np.stack([labels_of(each)[name] for each in drawn], axis=1))
        assert torch.equal(read[name] < 0, truth < 0)
        assert float((read[name] == truth)[truth >= 0].float().mean()) > 0.85, name


def test_every_class_stands_among_the_drawings_equally_often():
    labels = draw_templates(factors_of(DataConfig(), 8), 48, 40).labels
    for name, classes in CLASSES.items():
        applies = labels[name][:, 0] >= 0
        counts = torch.stack([(labels[name][applies] == place).sum(dim=1) for place in range(len(classes))])
        assert set(counts.flatten().tolist()) == {NUM_TEMPLATES // len(classes)}, name
        assert sum(classes.values()) == pytest.approx(1)


def test_a_changed_factor_is_read_as_changed():
    factors = factors_of(DataConfig(), 10)
    white = np.tile(np.float32(CLOTHING_COLOURS["white"]), (10, 1))
    changed = replace(factors, clothing=white, neckline=np.full(10, 3, np.float32))
    read = predict_factors(draw_templates(factors, 48, 40), bottoms(changed, 48, 40)[:, None])
    assert (read["clothing"] == list(CLOTHING_COLOURS).index("white")).float().mean() > 0.9
    assert (read["neckline"] == 3).float().mean() > 0.7


def test_hair_colours_are_named():
    factors = factors_of(DataConfig(), 40)
    for name, colour in zip(hair_colours(factors), factors.hair, strict=True):
        ratio = colour / np.array(HAIR_COLOURS[name])
        assert ratio.min() > 0.89 and ratio.max() < 1.11 and np.ptp(ratio) < 1e-3
