"""Readers whose answer is known, and completions that are shifted by a known amount."""

from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data.procedural import faces, render
from halfface_pipeline.data.procedural.factors import CLOTHING_COLOURS, redraw
from halfface_pipeline.evaluation import cache as completions
from halfface_pipeline.evaluation.evaluate import evaluate
from halfface_pipeline.evaluation.probes import Readers, choose_readings, fit_ridges, summarise_readings
from halfface_pipeline.evaluation.report import as_markdown
from halfface_pipeline.evaluation.trials import held_factors

NAN = float("nan")
DATA = DataConfig(height=48, width=40, num_eval_images=64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dim", [5, 60])
def test_the_left_out_error_and_the_weights_are_those_of_fitting_anew(dim):
    """Every face left out in turn, by the normal equations with an intercept that is not penalized."""
    features = torch.randn(40, dim, generator=generator(), dtype=torch.float64) * 3 + 1
    values = features[:, 0] + torch.randn(40, generator=generator(1), dtype=torch.float64)
    reader = fit_ridges(features, {"age": values.numpy()})["age"]
    scaled = (features - features.mean(0)) / features.std(0)
    penalty = reader.penalty * scaled.square().sum() / 40

    def fitted(rows):
        design = torch.cat([scaled[rows], torch.ones(len(rows), 1, dtype=torch.float64)], dim=1)
        ridge = penalty * torch.eye(dim + 1, dtype=torch.float64)
        ridge[-1, -1] = 0
        return torch.linalg.solve(design.T @ design + ridge, design.T @ values[rows])

    def read(row, weights):
        return scaled[row] @ weights[:-1] + weights[-1]

    every = torch.arange(40)
    missed = torch.stack([values[row] - read(row, fitted(every[every != row])) for row in range(40)])
    assert reader.left_out_r2 == pytest.approx(
        1 - float(missed.square().sum() / ((values - values.mean()) ** 2).sum())
    )
    assert torch.allclose(reader(features), read(every, fitted(every)).float(), atol=1e-5)
    assert reader.num_training == 40 and 1e-4 <= reader.penalty <= 1e4


def test_faces_without_a_value_are_not_learned_from():
    features = torch.randn(80, 4, generator=generator())
    values = features[:, 1].numpy().copy()
    values[::2] = NAN
    found = fit_ridges(features, {"half": values, "all": features[:, 1].numpy()})
    alone = fit_ridges(features[1::2], {"half": values[1::2]})["half"]
    assert found["half"].num_training == 40 and found["all"].num_training == 80
    assert torch.allclose(found["half"].weights, alone.weights)
    assert torch.allclose(found["all"](features), features[:, 1], atol=0.01)


SEEN = torch.tensor([1.0, 0.0, 0.0])


def known_and_hidden(num, seed):
    """Features: a number that is seen, one that is hidden, and one that is nothing; the rating is the sum of two."""
    seen, hidden, nothing = torch.randn(3, num, generator=generator(seed))
    return torch.stack([seen, hidden, nothing], dim=1), (seen + hidden).numpy()


def shift_of(bias, num=4000):
    """Shifts of completions whose hidden number is normal, as the true one is, plus a bias."""
    features, rating = known_and_hidden(2000, 1)
    truth, rated = known_and_hidden(num, 2)
    readers = Readers.fit(features, features * SEEN, {"age": rating})
    drawn = truth[:, None].repeat(1, 4, 1)
    drawn[..., 1] = torch.randn(num, 4, generator=generator(5)) + bias
    other_face = (truth * SEEN + truth.roll(1, 0) * (1 - SEEN))[:, None]
    other = readers.shifts(other_face, truth)
    section = summarise_readings(readers, {"age": rated}, truth, truth * SEEN, other)["age"]
    return readers.shifts(drawn, truth)["reading_shift_age"], section, truth, torch.from_numpy(rated)


def test_a_calibrated_sampler_shifts_nothing_and_a_biased_one_by_its_bias():
    shift, section, _, _ = shift_of(0.0)
    error = float(shift.std()) / 4000**0.5
    assert abs(float(shift.mean())) < 2.5 * error < 0.06
    assert float((shift_of(0.7)[0] - shift).mean()) == pytest.approx(0.7, abs=0.01)
    assert section["correlation"]["value"] > 0.99 and section["slope"]["value"] == pytest.approx(1, abs=0.02)
    # Half of the variance is hidden: the seen half alone has a correlation of 1 / sqrt 2.
    assert section["hidden_share"] == pytest.approx(0.5, abs=0.03)
    assert section["known_correlation"]["value"] == pytest.approx(0.5**0.5, abs=0.03)
    assert section["measure"] == "reading_shift_age" and section["deviation"] == pytest.approx(2**0.5, abs=0.05)


def test_by_the_true_rating_a_calibrated_sampler_goes_to_the_middle_and_by_the_known_half_it_does_not():
    shift, _, truth, rated = shift_of(0.0)
    assert float(shift[rated > 1].mean()) < -0.8 and float(shift[rated < -1].mean()) > 0.8
    assert abs(float(shift[truth[:, 0] > 1].mean())) < 0.15 and abs(float(shift[truth[:, 0] < -1].mean())) < 0.15


def test_a_column_that_is_noise_is_not_read():
    features, _ = known_and_hidden(300, 1)
    truth, _ = known_and_hidden(100, 2)
    noise = torch.randn(400, generator=generator(9)).numpy()
    ridges = fit_ridges(features, {"luck": noise[:300]})
    readers = Readers(ridges, ridges)
    section = summarise_readings(readers, {"luck": noise[300:]}, truth, truth, readers.shifts(truth[:, None], truth))
    assert section["luck"]["measure"] is None and section["luck"]["correlation"]["low"] < 0.4


TRAINING = {"age": np.arange(60.0), "few": np.append(np.arange(9.0), [NAN] * 51), "same": np.ones(60)}
TRAINING |= {"place": np.array(["a", "b"] * 30), "trained_on_alone": np.arange(60.0)}
HELD_OUT = {"age": np.arange(30.0), "few": np.arange(30.0), "same": np.ones(30), "place": np.array(["a", "b"] * 15)}
HELD_OUT |= {"here_alone": np.arange(30.0)}


def test_columns_to_read_are_chosen_by_name():
    assert choose_readings([], None, {}, 2) == []
    assert choose_readings(["age"], TRAINING, HELD_OUT, 20) == ["age"]
    assert choose_readings(["all"], TRAINING, HELD_OUT, 30) == ["age"]


@pytest.mark.parametrize(
    ("names", "training", "num_faces", "message"),
    [
        (["age"], None, 30, "read is age; a reader needs training faces, and the model does not say what it saw"),
        (["age"], TRAINING, 19, "num_faces is 19; a reader is checked on at least 20"),
        (["hair"], TRAINING, 30, "read has hair, which training and held-out faces do not both have; .* read: age$"),
        (["here_alone"], TRAINING, 30, "read has here_alone, which training and held-out faces do not both have"),
        (["place"], TRAINING, 30, "read has place, which holds words; a reader reads numbers; .* read: age$"),
        (["age", "few"], TRAINING, 30, "read has few, which 9 training faces have; a reader needs at least 50"),
        (["same"], TRAINING, 30, "read has same, which is 1 in all training faces"),
        (["all"], {}, 30, "read has all, which training and held-out faces do not both have; .* read: none$"),
        (["age"], {"age": np.arange(49.0)}, 30, "read has age, which 49 training faces have"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(names, training, num_faces, message):
    with pytest.raises(ValueError, match=message) as told:
        choose_readings(names, training, HELD_OUT, num_faces)
    assert "\n" not in str(told.value)


def test_held_out_faces_without_a_value_are_told():
    held_out = {"age": np.append(np.arange(19.0), [NAN] * 11)}
    with pytest.raises(ValueError, match="read has age, which 19 held-out faces have; a reader needs at least 20"):
        choose_readings(["age"], TRAINING, held_out, 30)


def drawing(colours):
    """Completions of the held-out faces that are exact samples, in clothes of other colours where some are given."""

    def draw(store, trial, first, seed):
        random, factors = np.random.default_rng(1000 + first), held_factors(DATA, len(trial.images), first=first)
        drawn = []
        for _ in range(4):
            again = redraw(factors, random)
            again = again if colours is None else replace(again, clothing=colours(again.clothing))
            drawn.append(render(again, 48, 40)[:, 24:])
        hidden = torch.from_numpy(np.stack(drawn, axis=1)).permute(0, 1, 4, 2, 3)
        return completions.Drawn(hidden, torch.ones(len(hidden), 4, dtype=torch.bool))

    return draw


def evaluated(tiny_pipeline, folder, monkeypatch, colours=None):
    monkeypatch.setattr(completions.Completions, "draw", drawing(colours))
    read = {"read": ["clothing_lightness", "smile"], "training": replace(DATA, num_images=400)}
    return evaluate(tiny_pipeline(48, 40), DATA, folder, num_faces=64, num_completions=4, **read)


def test_exact_samples_of_faces_shift_no_reading_and_lighter_clothes_shift_it(tiny_pipeline, tmp_path, monkeypatch):
    exact = evaluated(tiny_pipeline, tmp_path / "exact", monkeypatch)
    reading, rows = (
        exact["readings"]["clothing_lightness"],
        exact["measures"]["reading_shift_clothing_lightness"]["rows"],
    )
    assert reading["correlation"]["low"] > 0.9 and reading["hidden_share"] > 0.8
    assert rows["truth"]["value"] == 0
    assert rows["model"]["low"] < 0 < rows["model"]["high"] and rows["exact"]["low"] < 0 < rows["exact"]["high"]
    # Exact samples are as noisy and as sharp as the truth, so the truth matched to them reads as it is.
    assert abs(rows["matched_truth"]["value"]) < 0.02 * reading["deviation"]

    # Smiles are too small to be read off 16 x 16 averaged colours: told so, and no shift is shown.
    assert exact["readings"]["smile"]["measure"] is None and "reading_shift_smile" not in exact["measures"]
    table = (tmp_path / "exact" / "metrics.md").read_text()
    assert "- Smile cannot be read: correlation" in table and "- Read as clothing lightness: " in table
    assert "## Read off whole faces" in table and "reading shift" not in table
    assert (tmp_path / "exact" / "readings.png").exists()

    # In units of which a face has few, figures keep their digits.
    for name, figure in {"value": 0.00123, "low": -0.00045, "high": 0.00291}.items():
        rows["model"][name] = figure
    assert "- Read as clothing lightness: +0.00123 [-0.00045, +0.00291] against" in as_markdown(exact)

    def paler(colours):
        return colours + 0.3 * (1 - colours)

    pale = evaluated(tiny_pipeline, tmp_path / "pale", monkeypatch, paler)
    shifted = pale["measures"]["reading_shift_clothing_lightness"]["rows"]["model"]
    assert shifted["low"] > 0
    lightness = lightness_of(np.array(list(CLOTHING_COLOURS.values()), np.float32))
    expected = (lightness_of(paler(np.array(list(CLOTHING_COLOURS.values()), np.float32))) - lightness).mean()
    assert shifted["value"] - rows["model"]["value"] == pytest.approx(reading["slope"]["value"] * expected, rel=0.15)


def lightness_of(colours):
    from halfface_pipeline.evaluation.metrics.colour import to_lab

    return to_lab(torch.from_numpy(colours)[..., None, None])[:, 0, 0, 0].numpy()


def test_photographs_are_read_by_their_training_part_without_drawing_anew(tiny_pipeline, tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    for part, start, num in (("train", 0, 60), ("test", 100, 24)):
        (folder / part).mkdir(parents=True)
        images, factors = faces(num, 48, 40, start=start)
        lines = ["file_name,pale,words"]
        for row, image in enumerate(images):
            PIL.Image.fromarray(image).save(folder / part / f"{row:03d}.png")
            lines.append(f"{row:03d}.png,{100 * factors.skin[row].mean():.2f},w{row % 2}")
        (folder / part / "metadata.csv").write_text("\n".join(lines) + "\n")
    data = DataConfig("imagefolder", str(folder), train_split="train", eval_split="test", height=48, width=40)
    pipe, quick = tiny_pipeline(48, 40), {"num_faces": 24, "num_completions": 2, "num_inference_steps": 1}
    plain = evaluate(pipe, data, tmp_path / "out", **quick, training=data)
    assert plain["readings"] == {}
    monkeypatch.setattr(type(pipe), "__call__", lambda *_, **__: pytest.fail("nothing is to be drawn"))
    metrics = evaluate(pipe, data, tmp_path / "out", **quick, training=data, read=["all"], slices=["pale"])
    assert list(metrics["readings"]) == ["pale"] and metrics["schema_version"] == plain["schema_version"]
    assert metrics["readings"]["pale"]["num_training"] == 60 and metrics["readings"]["pale"]["measure"]
    shift = metrics["measures"]["reading_shift_pale"]
    assert shift["group"] == "shift" and set(shift["rows"]) >= {"matched_truth", "nearest_training_face", "truth"}
    assert {"known_pale", "pale"} <= set(metrics["audit"])
    assert "reading_shift_pale" in metrics["audit"]["known_pale"]["slices"][0]["measures"]
    assert {name: value for name, value in metrics["measures"].items() if name != "reading_shift_pale"} == {
        name: {**value, "rows": {**value["rows"], "matched_truth": None}} for name, value in plain["measures"].items()
    }


def test_nothing_is_written_when_a_column_cannot_be_read(tiny_pipeline, tmp_path):
    training = replace(DATA, num_images=60)
    with pytest.raises(ValueError, match="read has wit, which training and held-out faces do not both have"):
        evaluate(tiny_pipeline(48, 40), DATA, tmp_path / "out", num_faces=20, read=["wit"], training=training)
    assert not (tmp_path / "out").exists()
