"""Each measure moves the right way when exact samples are spoilt in a known way (benchmarks/what_measures_see.py)."""

import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # the table takes seven seconds
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "what_measures_see.py"
K = 4


@pytest.fixture(scope="module")
def see():
    spec = importlib.util.spec_from_file_location("what_measures_see", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table = module.rows(48)
    assert module.as_markdown(table).count("\n") > 15
    return lambda measure, kind: table[kind][measure]["value"]


# measure, how it is spoilt, by what factor it must at least grow (above 1) or shrink (below 1)
MOVES = [
    ("energy_score", "lighter by 0.05", 1.05),
    ("energy_score", "redder", 1.05),
    ("energy_score", "swapped", 1.8),
    ("energy_score", "unconditional", 1.4),
    ("energy_score", "one repeated", 1.4),
    ("energy_score", "mean repeated", 1.3),
    ("energy_score", "half the spread", 1.1),
    ("best_of_k_distance", "one repeated", 1.2),
    ("best_of_k_distance", "swapped", 1.8),
    ("distance_to_truth", "swapped", 1.4),
    ("determined_pixel_error", "blur", 50),
    ("determined_pixel_error", "noise", 50),
    ("determined_pixel_error", "swapped", 500),
    ("seam_gradient", "noise", 1.3),
    ("seam_gradient", "blur", 1.1),
    ("seam_gradient", "swapped", 5),
    ("seam_colour_difference", "swapped", 2),
    ("frechet_distance", "swapped", 1.05),
    ("colour_error_hair", "swapped", 100),
    ("spread", "unconditional", 1.3),
    ("spread", "half the spread", 0.55),
    ("pairwise_distance", "half the spread", 0.55),
    ("residual_noise", "noise", 5),
    ("residual_noise", "blur", 0.7),
    ("sharpness", "blur", 0.5),
    ("sharpness", "noise", 1.2),
    ("sharpness", "mean repeated", 0.85),
]


@pytest.mark.parametrize(("measure", "kind", "factor"), MOVES)
def test_measures_move_the_right_way(see, measure, kind, factor):
    ratio = see(measure, kind) / see(measure, "exact samples")
    assert ratio >= factor if factor > 1 else ratio <= factor


def test_distances_between_sets_see_colours_and_not_whose_half_it_is(see):
    assert see("kernel_distance", "lighter by 0.05") > 0.002 > 0.001 > see("kernel_distance", "swapped")
    assert see("recall", "mean repeated") < see("recall", "exact samples")
    assert see("density", "mean repeated") > 1.15 * see("density", "exact samples")
    assert see("density", "redder") < 0.9 * see("density", "exact samples")
    assert see("frechet_distance", "swapped") == see("frechet_distance", "unconditional")


def test_what_has_no_spread_has_none(see):
    for kind in ("one repeated", "mean repeated"):
        assert see("spread", kind) == see("pairwise_distance", kind) == 0


def test_shifts_have_their_sign_and_size(see):
    # 0.05 of a grey value is about 5 L*.
    assert 4 < see("lightness_shift_skin", "lighter by 0.05") < 7
    assert 4 < see("lightness_shift_hair", "lighter by 0.05") < 7
    assert 4 < see("lightness_shift_dark_hair", "lighter by 0.05") < 7
    assert abs(see("lightness_shift_skin", "exact samples")) < 0.1


def test_distance_to_the_truth_is_fooled_by_the_mean_and_the_energy_score_is_not(see):
    assert see("distance_to_truth", "mean repeated") < 0.9 * see("distance_to_truth", "exact samples")
    assert see("energy_score", "mean repeated") > 1.3 * see("energy_score", "exact samples")


def test_ranks_are_calibrated_for_exact_samples_and_not_for_narrow_ones(see):
    for name in ("lightness", "sharpness", "distance to others"):
        assert see(f"rank p: {name.replace(' ', '_')}", "exact samples") > 0.01
    assert see("rank p: distance_to_others", "half the spread") < 1e-6
    assert see("rank p: lightness", "lighter by 0.05") < 1e-3
    assert see("seam test p", "exact samples") > 0.01 > see("seam test p", "noise")
