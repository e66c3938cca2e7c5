"""Columns of faces, and their choice by name."""

import numpy as np
import pytest

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data.images import load_images
from halfface_pipeline.evaluation.columns import choose_columns, factor_columns, load_columns
from halfface_pipeline.evaluation.dataset import factors_of


def test_columns_are_chosen_by_name():
    faults = {"age": None, "happy": None, "place": "which holds words"}
    assert choose_columns("slices", [], faults) == [] == choose_columns("slices", [], {})
    assert choose_columns("slices", ["all"], faults) == ["age", "happy"]
    assert choose_columns("slices", ["happy", "happy"], faults) == ["happy"]


@pytest.mark.parametrize(
    ("names", "faults", "message"),
    [
        (["age", "hair"], {"age": None}, "slices has hair, which the data do not have; possible columns: age$"),
        (["all"], {}, "slices has all, which the data do not have; possible columns: none$"),
        (["b"], {"a": None, "b": "which is bad"}, "slices has b, which is bad; possible columns: a$"),
        (["all"], {"b": "which is bad"}, "slices has all, which the data do not have; possible columns: none$"),
    ],
)
def test_other_columns_are_refused_in_one_line(names, faults, message):
    with pytest.raises(ValueError, match=message) as told:
        choose_columns("slices", names, faults)
    assert "\n" not in str(told.value)


def test_procedural_faces_have_columns_of_what_they_are_drawn_from():
    columns = factor_columns(factors_of(DataConfig(), 12))
    assert {"glasses", "hair_colour", "neckline", "long_hair", "skin_lightness", "smile", "yaw"} <= set(columns)
    assert "skin" not in columns and all(len(values) == 12 for values in columns.values())
    assert set(columns["hair_colour"]) <= {"black", "dark brown", "brown", "auburn", "blond", "grey"}
    lightness = {name: columns["hair_lightness"][columns["hair_colour"] == name] for name in columns["hair_colour"]}
    assert all(values.max() < 20 for name, values in lightness.items() if name == "black")


@pytest.mark.parametrize("split", ["train", "eval"])
def test_columns_are_those_of_the_first_faces_of_a_split(split):
    data = DataConfig(height=48, width=40, num_images=6, num_eval_images=6)
    columns = load_columns(data, load_images(data, split, progress=False), 4, split)
    wanted = factor_columns(factors_of(data, 4, split))
    assert all(np.array_equal(columns[name], values) for name, values in wanted.items())
