"""Checks of the procedural portraits: what the halves may and may not show, and the documented distribution."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from halfface_pipeline.data.procedural import faces, render
from halfface_pipeline.data.procedural.factors import (
    CLOTHING_COLOURS,
    FREE,
    GLASSES,
    HAIR_COLOURS,
    HAIR_WEIGHTS_DARK,
    HAIR_WEIGHTS_LIGHT,
    NECKLINE_WEIGHTS,
    NECKLINES,
    SEEN,
    SEEN_RANGES,
    SKIN_COLOURS,
    Factors,
    draw_factors,
    records,
    resample_free,
)

COLOURS = ("skin", "hair", "iris", "background_top", "background_bottom", "clothing")
SIZES = [(48, 40), (108, 88), (218, 178), (96, 96), (16, 16), (50, 120)]


def extreme_factors(num: int) -> Factors:
    """Faces with every ranged seen factor at one of its ends, where a free factor would reach the cut first."""
    factors = draw_factors(11, np.arange(num))
    ends = np.random.default_rng(3).integers(0, 2, (len(SEEN_RANGES), num))
    ranged = {
        name: np.array(ends_of, np.float32)[pick]
        for (name, ends_of), pick in zip(SEEN_RANGES.items(), ends, strict=True)
    }
    return replace(factors, **ranged)


def with_one_changed(factors: Factors, name: str) -> Factors:
    """The faces with one factor alone moved to another value that it may take."""
    value = getattr(factors, name)
    if name in COLOURS:
        changed = np.where(value > 0.5, value - 0.3, value + 0.3)
    elif name in SEEN_RANGES:
        low, high = SEEN_RANGES[name]
        changed = np.where(value > 0.5 * (low + high), value - 0.4 * (high - low), value + 0.4 * (high - low))
    else:
        changed = {
            "long_hair": 1.0 - value,
            "glasses": (value + 1.0) % len(GLASSES),
            "mouth_gap": np.where(value > 0.0, 0.0, 0.7),
            "smile": np.where(value > 0.5, value - 0.4, value + 0.4),
            "lipstick": np.where(value > 0.0, 0.0, 0.7),
            "beard": np.where(value > 0.0, 0.0, 0.7),
            "neckline": (value + 1.0) % len(NECKLINES),
            "jaw": np.where(value > 0.0, value - 0.8, value + 0.8),
            "hair_end": np.where(value > 0.87, value - 0.15, value + 0.15),
        }[name]
    return replace(factors, **{name: changed.astype(np.float32)})


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_redraw_leaves_the_top_half_bit_for_bit(height: int, width: int) -> None:
    factors = extreme_factors(24)
    images = render(factors, height, width)
    changed = np.zeros(len(factors), bool)
    for repeat in range(2):
        redrawn = render(resample_free(factors, np.random.default_rng(repeat)), height, width)
        np.testing.assert_array_equal(redrawn[:, : height // 2], images[:, : height // 2])
        changed |= (redrawn[:, height // 2 :] != images[:, height // 2 :]).any(axis=(1, 2, 3))
    assert changed.all()


def test_free_extremes_leave_the_top_half() -> None:
    factors = extreme_factors(16)
    limits = {
        "mouth_gap": (0, 1),
        "smile": (0, 1),
        "jaw": (-1, 1),
        "lipstick": (0, 1),
        "beard": (0, 1),
        "neckline": (0, 3),
    }
    limits["hair_end"] = (0.7, 1.05)
    for side in (0, 1):
        moved = {name: np.full(16, ends[side], np.float32) for name, ends in limits.items() if name != "hair_end"}
        moved["hair_end"] = np.where(factors.long_hair > 0.5, np.float32(limits["hair_end"][side]), np.float32(0.0))
        for height, width in ((48, 40), (128, 104)):
            top = render(replace(factors, **moved), height, width)[:, : height // 2]
            np.testing.assert_array_equal(top, render(factors, height, width)[:, : height // 2])


@pytest.mark.parametrize(("height", "width"), [(48, 40), (130, 104)])
def test_a_face_does_not_depend_on_its_company(height: int, width: int) -> None:
    together, factors = faces(23, height, width, seed=4)
    later, later_factors = faces(5, height, width, seed=4, start=17)
    np.testing.assert_array_equal(later, together[17:22])
    for name in SEEN + FREE:
        np.testing.assert_array_equal(getattr(later_factors, name), getattr(factors, name)[17:22])
    for number in (0, 9, 22):
        np.testing.assert_array_equal(faces(1, height, width, seed=4, start=number)[0][0], together[number])
    mixed = draw_factors(4, [22, 3, 3, 8])
    np.testing.assert_array_equal(render(mixed, height, width), together[[22, 3, 3, 8]])
    np.testing.assert_array_equal(render(factors[::-2], height, width), together[::-2])


def test_seeds_and_numbers_give_different_faces() -> None:
    first, second = faces(40, 48, 40, seed=0)[0], faces(40, 48, 40, seed=1)[0]
    both = np.concatenate([first, second]).reshape(80, -1)
    assert len(np.unique(both, axis=0)) == 80


@pytest.mark.parametrize("name", FREE)
def test_every_free_factor_shows_in_the_bottom_half_alone(name: str) -> None:
    factors = draw_factors(2, np.arange(40))
    if name in ("hair_end", "lipstick", "beard"):
        factors = factors[(factors.long_hair > 0.5) == (name != "beard")]
    before, after = render(factors, 48, 40), render(with_one_changed(factors, name), 48, 40)
    np.testing.assert_array_equal(after[:, :24], before[:, :24])
    largest = np.abs(after[:, 24:].astype(int) - before[:, 24:]).max(axis=(1, 2, 3))
    assert largest.min() >= 8


@pytest.mark.parametrize("name", SEEN)
def test_every_seen_factor_shows_in_the_top_half(name: str) -> None:
    factors = draw_factors(3, np.arange(40))
    before, after = render(factors, 48, 40), render(with_one_changed(factors, name), 48, 40)
    largest = np.abs(after[:, :24].astype(int) - before[:, :24]).max(axis=(1, 2, 3))
    assert largest.min() >= 2 and np.median(largest) >= 5


def test_seen_and_free_name_every_field_once() -> None:
    assert sorted(SEEN + FREE) == sorted(field.name for field in fields(Factors))


def check_free_rules(factors: Factors) -> None:
    long = factors.long_hair > 0.5
    assert (factors.lipstick[~long] == 0).all()
    assert (factors.beard[long] == 0).all()
    assert (factors.hair_end[~long] == 0).all()
    assert factors.hair_end[long].min() >= 0.7 and factors.hair_end[long].max() <= 1.05


def check_free_frequencies(factors: Factors) -> None:
    """Each documented probability and mean within 4 standard errors."""

    def share(chosen: np.ndarray, probability: float) -> None:
        assert abs(chosen.mean() - probability) < 4 * np.sqrt(probability * (1 - probability) / len(chosen))

    def uniform(values: np.ndarray, low: float, high: float) -> None:
        assert values.min() >= low - 1e-6 and values.max() <= high + 1e-6
        error = 4 * (high - low) / np.sqrt(12 * len(values))
        assert abs(values.mean() - 0.5 * (low + high)) < error
        share(values < low + 0.25 * (high - low), 0.25)

    long = factors.long_hair > 0.5
    share(factors.mouth_gap > 0, 0.5)
    uniform(factors.mouth_gap[factors.mouth_gap > 0], 0.4, 1.0)
    uniform(factors.smile, 0.0, 1.0)
    share(factors.lipstick[long] > 0, 0.55)
    uniform(factors.lipstick[factors.lipstick > 0], 0.5, 1.0)
    share(factors.beard[~long] > 0, 0.45)
    uniform(factors.beard[factors.beard > 0], 0.35, 1.0)
    palette = np.array(list(CLOTHING_COLOURS.values()))
    nearest = np.abs(factors.clothing[:, None] - palette).sum(axis=2).argmin(axis=1)
    for colour in range(len(palette)):
        share(nearest == colour, 1 / len(palette))
    uniform(factors.clothing.sum(axis=1) / palette[nearest].sum(axis=1), 0.9, 1.1)
    for kind, probability in enumerate(NECKLINE_WEIGHTS):
        share(factors.neckline == kind, probability)
    uniform(factors.jaw, -1.0, 1.0)
    uniform(factors.hair_end[long], 0.7, 1.05)


def test_free_factors_follow_the_documented_distribution_in_draws_and_redraws() -> None:
    factors = draw_factors(5, np.arange(6000))
    redrawn = resample_free(factors, np.random.default_rng(6))
    one_face = resample_free(factors[np.zeros(6000, int)], np.random.default_rng(7))
    for drawn in (factors, redrawn):
        check_free_rules(drawn)
        check_free_frequencies(drawn)
    assert (one_face.long_hair == factors.long_hair[0]).all()
    for name in SEEN:
        np.testing.assert_array_equal(getattr(redrawn, name), getattr(factors, name))
    for name in FREE:
        old, new = getattr(factors, name).reshape(6000, -1)[:, 0], getattr(redrawn, name).reshape(6000, -1)[:, 0]
        long = factors.long_hair > 0.5
        applies = {"lipstick": long, "hair_end": long, "beard": ~long}.get(name, np.ones(6000, bool))
        assert abs(np.corrcoef(old[applies], new[applies])[0, 1]) < 4 / np.sqrt(applies.sum())


@pytest.mark.parametrize("long_hair", [0.0, 1.0])
def test_free_factors_depend_on_long_hair_alone(long_hair: float) -> None:
    factors = draw_factors(8, np.arange(6000))
    factors = factors[factors.long_hair == long_hair]
    columns, owners = [], []
    for name in SEEN + FREE:
        for column in getattr(factors, name).reshape(len(factors), -1).T:
            if column.std() > 0:
                columns.append(column)
                owners.append(name)
    owner = np.array(owners)
    may_relate = (owner[:, None] == owner) | (np.isin(owner, SEEN)[:, None] & np.isin(owner, SEEN))
    assert len(set(owners) & set(FREE)) == (7 if long_hair else 6)
    relation = np.corrcoef(np.array(columns))
    assert np.abs(relation[~may_relate]).max() < 5 / np.sqrt(len(factors))


def test_hair_colours_follow_the_skin() -> None:
    factors = draw_factors(9, np.arange(6000))
    stops = np.array(SKIN_COLOURS)[:, 0]
    place = np.interp(-factors.skin[:, 0], -stops, (0.0, 0.17, 0.34, 0.5, 0.67, 0.84, 1.0))
    directions = np.array([np.array(colour) / np.linalg.norm(colour) for colour in HAIR_COLOURS.values()])
    middle = np.linalg.norm(factors.hair, axis=1, keepdims=True)
    kind = np.argmax(factors.hair / middle @ directions.T, axis=1)
    shades = np.linalg.norm(list(HAIR_COLOURS.values()), axis=1)
    for group, weights in ((place < 0.6, HAIR_WEIGHTS_LIGHT), (place >= 0.6, HAIR_WEIGHTS_DARK)):
        shown = np.bincount(kind[group], minlength=len(weights)) / group.sum()
        error = np.sqrt(np.array(weights) * (1 - np.array(weights)) / group.sum())
        assert (np.abs(shown - weights) <= 4 * error + 1e-9).all()
    ratio = middle[:, 0] / shades[kind]
    assert ratio.min() >= 0.9 - 1e-5 and ratio.max() <= 1.1 + 1e-5 and abs(ratio.mean() - 1.0) < 0.01


def test_shapes_types_and_use_of_the_range() -> None:
    images, factors = faces(30, 48, 40)
    assert images.shape == (30, 48, 40, 3) and images.dtype == np.uint8
    assert len(factors) == 30 and len(factors[4:9]) == 5 and len(factors[factors.long_hair > 0.5]) < 30
    assert len(factors[-1]) == 1 and factors[-1].smile[0] == factors.smile[29]
    for field in fields(factors):
        value = getattr(factors, field.name)
        assert value.dtype == np.float32
        assert value.shape == ((30, 3) if field.name in COLOURS else (30,))
    assert images.min() < 30 and images.max() > 220
    assert (images.std(axis=(1, 2)) > 15).all()


def test_the_same_picture_at_every_size() -> None:
    factors = draw_factors(1, np.arange(12))
    for height, width in ((48, 40), (108, 88)):
        small = render(factors, height, width) / 255.0
        large = render(factors, 4 * height, 4 * width).reshape(12, height, 4, width, 4, 3).mean(axis=(2, 4)) / 255.0
        difference = np.abs(large - small)
        assert difference.mean() < 0.01
        assert difference.mean(axis=(1, 2, 3)).max() < 0.03


def test_edges_are_anti_aliased() -> None:
    factors = draw_factors(1, np.arange(12))
    moved = replace(factors, shift_x=factors.shift_x + np.float32(0.1 / 48))
    step = np.abs(render(moved, 48, 40).astype(int) - render(factors, 48, 40))
    assert 0 < step.max() < 60


def test_records_are_flat_and_json_able() -> None:
    factors = draw_factors(0, [5, 6])
    rows = records(factors)
    assert json.loads(json.dumps(rows)) == rows
    assert [list(row) for row in rows] == [[field.name for field in fields(Factors)]] * 2
    assert rows[1]["smile"] == pytest.approx(float(factors.smile[1]), abs=1e-6)
    assert rows[0]["long_hair"] is bool(factors.long_hair[0])
    assert rows[0]["neckline"] == NECKLINES[int(factors.neckline[0])]
    assert rows[0]["glasses"] == GLASSES[int(factors.glasses[0])]
    white = replace(factors, skin=np.array([[1.0, 0.5, 0.0]] * 2, np.float32))
    assert records(white)[0]["skin"] == "#ff8000"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num": 0}, "num is 0"),
        ({"height": 14}, "height is 14"),
        ({"height": 49}, "height is 49; it must be even"),
        ({"width": 15}, "width is 15"),
        ({"seed": -1}, "seed is -1"),
        ({"start": -2}, "start is -2"),
    ],
)
def test_faces_names_what_is_out_of_range(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        faces(**({"num": 1, "height": 48, "width": 40} | arguments))


def test_render_and_draw_check_their_arguments() -> None:
    with pytest.raises(ValueError, match="height is 47"):
        render(draw_factors(0, [0]), 47, 40)
    with pytest.raises(ValueError, match="index is -1"):
        draw_factors(0, [3, -1])
    with pytest.raises(ValueError, match="seed is -5"):
        draw_factors(-5, [0])
    with pytest.raises(ValueError, match="number of indices is 0"):
        draw_factors(0, [])
