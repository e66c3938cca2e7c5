"""Slices of columns whose answer is known."""

import numpy as np
import pytest
import torch

from halfface_pipeline.evaluation.slices import audit, slices_of

NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "names", "places"),
    [
        (np.array(["b", "a", "b"]), ["a", "b"], [1, 0, 1]),
        (np.array([0.0, 1.0, NAN, 1.0]), ["0", "1"], [0, 1, -1, 1]),
        (np.array([-1, 1, 1]), ["-1", "1"], [0, 1, 1]),
        (np.array([2.0, 0.0, 1.0]), ["0", "1", "2"], [2, 0, 1]),
        (np.array([0.5, 0.25]), ["0.25", "0.5"], [1, 0]),
        (np.array([NAN, NAN]), [], [-1, -1]),
        (np.array([True, False]), ["0", "1"], [1, 0]),
    ],
)
def test_columns_with_few_values_are_sliced_by_value(values, names, places):
    found = slices_of(values)
    assert found[0] == names and found[1].tolist() == places


def test_other_columns_are_cut_at_their_quartiles():
    names, places = slices_of(np.append(np.arange(100) / 7, NAN))
    assert len(names) == 4 and np.bincount(places[:-1]).tolist() == [25, 25, 25, 25] and places[-1] == -1
    assert names[0] == "0 to 3.54" and names[3] == "10.6 to 14.1"
    assert places[99] == 3  # the largest value belongs to the last slice


def test_many_equal_values_give_fewer_slices():
    names, places = slices_of(np.append(np.zeros(60), np.linspace(0.1, 1.2, 40)))
    assert len(names) == 2 and set(places.tolist()) == {0, 1}


def rows(scale):
    scores = 1 + 0.1 * torch.rand(40, generator=torch.Generator().manual_seed(0))
    return {"energy_score": scores * scale, "lightness_shift_hair": scores - 1.05, "spread": scores}


def test_the_worst_slice_is_found_with_the_gap_as_a_ratio():
    kinds = np.arange(40) % 2
    model = rows(torch.from_numpy(np.where(kinds == 1, 3.0, 1.0)).float())
    found = audit({"kind": kinds, "other": np.arange(40) // 20}, model, rows(0.5), rows(4))
    gap = found["kind"]["gaps"]["energy_score"]
    assert (gap["worst"], gap["best"]) == ("1", "0") and gap["p_value"] == pytest.approx(1 / 1000)
    assert gap["low"] < gap["ratio"] < gap["high"] and gap["ratio"] == pytest.approx(3, rel=0.05)
    assert gap["low"] > 2.9 and gap["high"] < 3.1
    assert set(found["kind"]["gaps"]) == {"energy_score"}  # the others have no better end
    other = found["other"]["gaps"]["energy_score"]
    assert other["p_value"] > 0.05
    # Of two tests the smaller p is doubled, the larger one kept.
    assert gap["q_value"] == pytest.approx(2 / 1000) and other["q_value"] == pytest.approx(other["p_value"])
    first = found["kind"]["slices"][0]
    assert first["num_faces"] == 20 and first["name"] == "0"
    score = first["measures"]["energy_score"]
    assert score["floor"] == pytest.approx(score["value"] / 2) and score["ceiling"] == pytest.approx(
        4 * score["value"]
    )
    assert score["low"] < score["value"] < score["high"] and score["num_faces"] == 20


def test_gaps_over_slices_without_error_are_left_out():
    model = rows(1) | {"determined_pixel_error": torch.zeros(40)}
    gaps = audit({"kind": np.arange(40) % 2}, model, rows(1), rows(1))["kind"]["gaps"]
    assert "determined_pixel_error" not in gaps
    assert gaps["energy_score"]["q_value"] == pytest.approx(gaps["energy_score"]["p_value"])


def test_slices_of_few_faces_are_shown_and_not_compared():
    kinds = np.array([0] * 32 + [1] * 8)
    model = rows(torch.from_numpy(np.where(kinds == 1, 9.0, 1.0)).float())
    found = audit({"kind": kinds}, model, rows(1), rows(1))["kind"]
    assert [piece["num_faces"] for piece in found["slices"]] == [32, 8] and found["gaps"] == {}
    three = audit({"kind": np.array([0] * 16 + [1] * 16 + [2] * 8)}, model, rows(1), rows(1))["kind"]
    assert three["gaps"]["energy_score"]["worst"] in "01"
