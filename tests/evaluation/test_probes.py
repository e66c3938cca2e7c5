"""Probes with known predictions, and completions that are shifted by a known amount."""

import sys
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch

from halfface_pipeline.config.schema import DataConfig, SamplingConfig
from halfface_pipeline.data.procedural import faces, render
from halfface_pipeline.data.procedural.factors import CLOTHING_COLOURS, resample_free
from halfface_pipeline.evaluation.cache import Completed, Completions
from halfface_pipeline.evaluation.config import EvaluationConfig
from halfface_pipeline.evaluation.dataset import factors_of
from halfface_pipeline.evaluation.evaluate import evaluate
from halfface_pipeline.evaluation.metrics.colour import lightness
from halfface_pipeline.evaluation.probes import evaluate_probes, fit_probes, probe_faults, shifts
from halfface_pipeline.evaluation.report import as_markdown

NAN = float("nan")
DATA = DataConfig(height=48, width=40, num_eval_images=40)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dim", [5, 60])
def test_probes_are_ridge_regressions(dim):
    """The normal equations with an intercept that is not penalized, and the error of fitting without each face."""
    features = torch.randn(40, dim, generator=generator(), dtype=torch.float64) * 3 + 1
    values = features[:, 0] + torch.randn(40, generator=generator(1), dtype=torch.float64)
    probe = fit_probes(features, {"age": values.numpy()})["age"]
    scaled = (features - features.mean(0)) / features.std(0, correction=0)
    penalty = probe.penalty * scaled.square().sum() / 40
    design = torch.cat([scaled, torch.ones(40, 1, dtype=torch.float64)], dim=1)
    ridge = penalty * torch.eye(dim + 1, dtype=torch.float64)
    ridge[-1, -1] = 0

    def predict(row, rows):
        inside = design[rows]
        return design[row] @ torch.linalg.solve(inside.T @ inside + ridge, inside.T @ values[rows])

    every = torch.arange(40)
    assert torch.allclose(probe(features), predict(every, every).float(), atol=1e-5)
    missed = torch.stack([values[row] - predict(row, every[every != row]) for row in range(40)])
    assert probe.left_out_r2 == pytest.approx(1 - float(missed.square().sum() / ((values - values.mean()) ** 2).sum()))
    assert probe.num_training == 40 and 1e-4 <= probe.penalty <= 1e4


def test_faces_without_a_value_are_left_out():
    features = torch.randn(80, 4, generator=generator())
    values = features[:, 1].numpy().copy()
    values[::2] = NAN
    found = fit_probes(features, {"half": values, "all": features[:, 1].numpy(), "other": 3 * values})
    alone = fit_probes(features[1::2], {"half": values[1::2]})["half"]
    assert list(found) == ["half", "all", "other"]
    assert [probe.num_training for probe in found.values()] == [40, 80, 40]
    assert torch.allclose(found["half"].weights, alone.weights)
    assert torch.allclose(found["all"](features), features[:, 1], atol=0.01)
    assert torch.allclose(found["other"](features), 3 * features[:, 1], atol=0.05)


def test_scikit_learn_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ValueError, match=r"--read needs scikit-learn: pip install 'halfface-pipeline\[eval\]'$"):
        fit_probes(torch.zeros(3, 1), {"age": np.arange(3.0)})


SEEN = torch.tensor([1.0, 0.0, 0.0])


def known_and_hidden(num, seed):
    """Features: a number that is seen, one that is hidden, and one that is nothing; the rating is the sum of two."""
    seen, hidden, nothing = torch.randn(3, num, generator=generator(seed))
    return torch.stack([seen, hidden, nothing], dim=1), (seen + hidden).numpy()


def shift_of(bias, num=4000):
    """Shifts of completions whose hidden number is normal, as the true one is, plus a bias."""
    features, rating = known_and_hidden(2000, 1)
    truth, rated = known_and_hidden(num, 2)
    probes, known = fit_probes(features, {"age": rating}), fit_probes(features * SEEN, {"age": rating})
    drawn = truth[:, None].repeat(1, 4, 1)
    drawn[..., 1] = torch.randn(num, 4, generator=generator(5)) + bias
    other_face = (truth * SEEN + truth.roll(1, 0) * (1 - SEEN))[:, None]
    other = shifts(probes, other_face, truth)
    section = evaluate_probes(probes, known, {"age": rated}, truth, truth * SEEN, other)["age"]
    return shifts(probes, drawn, truth)["reading_shift_age"], section, truth, torch.from_numpy(rated)


def test_shifts_are_the_bias_of_the_sampler():
    shift, section, _, _ = shift_of(0.0)
    error = float(shift.std()) / 4000**0.5
    assert abs(float(shift.mean())) < 2.5 * error < 0.06
    assert float((shift_of(0.7)[0] - shift).mean()) == pytest.approx(0.7, abs=0.01)
    assert section["correlation"]["value"] > 0.99 and section["slope"]["value"] == pytest.approx(1, abs=0.02)
    # Half of the variance is hidden: the seen half alone has a correlation of 1 / sqrt 2.
    assert section["hidden_share"] == pytest.approx(0.5, abs=0.03)
    assert section["known_correlation"]["value"] == pytest.approx(0.5**0.5, abs=0.03)
    assert section["measure"] == "reading_shift_age" and section["deviation"] == pytest.approx(2**0.5, abs=0.05)


def test_slices_by_the_true_rating_regress_to_the_mean():
    shift, _, truth, rated = shift_of(0.0)
    assert float(shift[rated > 1].mean()) < -0.8 and float(shift[rated < -1].mean()) > 0.8
    assert abs(float(shift[truth[:, 0] > 1].mean())) < 0.15 and abs(float(shift[truth[:, 0] < -1].mean())) < 0.15


def test_a_column_of_noise_has_no_valid_probe():
    features, _ = known_and_hidden(300, 1)
    truth, _ = known_and_hidden(100, 2)
    noise = torch.randn(400, generator=generator(9)).numpy()
    probes = fit_probes(features, {"luck": noise[:300]})
    unshifted = shifts(probes, truth[:, None], truth)
    section = evaluate_probes(probes, probes, {"luck": noise[300:]}, truth, truth, unshifted)
    assert section["luck"]["measure"] is None and section["luck"]["correlation"]["low"] < 0.4


TRAINING = {"age": np.arange(60.0), "few": np.append(np.arange(9.0), [NAN] * 51), "same": np.ones(60)}
TRAINING |= {"place": np.array(["a", "b"] * 30), "trained_on_alone": np.arange(60.0)}
HELD_OUT = {"age": np.arange(30.0), "few": np.arange(30.0), "same": np.ones(30), "place": np.array(["a", "b"] * 15)}
HELD_OUT |= {"here_alone": np.arange(30.0)}


def test_columns_are_predicted_where_enough_faces_differ_in_them():
    assert probe_faults(TRAINING, HELD_OUT) == {
        "age": None,
        "few": "which 9 training faces have; a probe needs at least 50",
        "same": "which is 1 in all training faces",
        "place": "which holds words; probes need numbers",
    }
    assert probe_faults({"age": np.arange(49.0)}, HELD_OUT)["age"].startswith("which 49 training faces have")
    held_out = {"age": np.append(np.arange(19.0), [NAN] * 11)}
    wanted = {"age": "which 19 held-out faces have; a probe needs at least 20"}
    assert probe_faults(TRAINING, held_out) == wanted


def test_probes_without_training_data_are_refused(tiny_pipeline, tmp_path):
    config = EvaluationConfig(SamplingConfig(num_faces=40, num_completions=2), read=["smile"])
    with pytest.raises(ValueError, match="read is smile; probes need training faces, and the model does not state"):
        evaluate(tiny_pipeline(48, 40), DATA, config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def completing(colours):
    """Completions of the held-out faces that are exact samples, in clothes of other colours where some are given."""

    def complete(store, images, first, seed):
        random, factors = np.random.default_rng(1000 + first), factors_of(DATA, len(images), first=first)
        drawn = []
        for _ in range(4):
            again = resample_free(factors, random)
            again = again if colours is None else replace(again, clothing=colours(again.clothing))
            drawn.append(render(again, 48, 40)[:, 24:])
        hidden = torch.from_numpy(np.stack(drawn, axis=1)).permute(0, 1, 4, 2, 3)
        return Completed(hidden, torch.ones(len(hidden), 4, dtype=torch.bool))

    return complete


def evaluated(tiny_pipeline, folder, monkeypatch, colours=None):
    monkeypatch.setattr(Completions, "complete", completing(colours))
    config = EvaluationConfig(SamplingConfig(num_faces=40, num_completions=4), read=["clothing_lightness", "smile"])
    return evaluate(tiny_pipeline(48, 40), DATA, config, folder, replace(DATA, num_images=250))


@pytest.mark.slow
def test_exact_samples_shift_nothing_and_paler_clothes_do(tiny_pipeline, tmp_path, monkeypatch):
    exact = evaluated(tiny_pipeline, tmp_path / "exact", monkeypatch)
    reading, rows = (
        exact["readings"]["clothing_lightness"],
        exact["measures"]["reading_shift_clothing_lightness"]["rows"],
    )
    assert reading["correlation"]["low"] > 0.9 and reading["hidden_share"] > 0.8
    assert rows["truth"]["value"] == 0
    assert rows["model"]["low"] < 0 < rows["model"]["high"] and rows["exact"]["low"] < 0 < rows["exact"]["high"]
    # Exact samples have the noise and sharpness of the truth, so the truth matched to them stays as it is.
    assert abs(rows["matched_truth"]["value"]) < 0.02 * reading["deviation"]

    # Smiles are too small to be predicted from 16 x 16 averaged colours.
    assert exact["readings"]["smile"]["measure"] is None and "reading_shift_smile" not in exact["measures"]
    table = (tmp_path / "exact" / "metrics.md").read_text()
    assert "- Smile cannot be predicted: correlation" in table and "- Predicted clothing lightness: " in table
    assert "## Probes" in table and "reading shift" not in table
    assert (tmp_path / "exact" / "readings.png").exists()

    # Small shifts keep their digits.
    for name, figure in {"value": 0.00123, "low": -0.00045, "high": 0.00291}.items():
        rows["model"][name] = figure
    assert "- Predicted clothing lightness: +0.00123 [-0.00045, +0.00291] from" in as_markdown(exact)

    def paler(colours):
        return colours + 0.3 * (1 - colours)

    pale = evaluated(tiny_pipeline, tmp_path / "pale", monkeypatch, paler)
    shifted = pale["measures"]["reading_shift_clothing_lightness"]["rows"]["model"]
    assert shifted["low"] > 0
    clothes = np.array(list(CLOTHING_COLOURS.values()), np.float32)
    expected = float((lightness(paler(clothes)) - lightness(clothes)).mean()) * reading["slope"]["value"]
    assert shifted["value"] - rows["model"]["value"] == pytest.approx(expected, rel=0.15)


def test_photographs_have_probes_of_their_training_part(tiny_pipeline, tmp_path, monkeypatch):
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
    pipe, sampling = tiny_pipeline(48, 40), SamplingConfig("ddpm", 1, num_faces=24, num_completions=2)
    plain = evaluate(pipe, data, EvaluationConfig(sampling), tmp_path / "out", data)
    assert plain["readings"] == {}
    monkeypatch.setattr(type(pipe), "__call__", lambda *_, **__: pytest.fail("everything is in the cache"))
    metrics = evaluate(pipe, data, EvaluationConfig(sampling, read=["all"], slices=["pale"]), tmp_path / "out", data)
    assert list(metrics["readings"]) == ["pale"] and metrics["schema_version"] == plain["schema_version"]
    assert metrics["readings"]["pale"]["num_training"] == 60 and metrics["readings"]["pale"]["measure"]
    shift = metrics["measures"]["reading_shift_pale"]
    assert shift["group"] == "shift" and set(shift["rows"]) >= {"matched_truth", "nearest_training_face", "truth"}
    assert {"known_pale", "pale"} <= set(metrics["audit"])
    assert "reading_shift_pale" in metrics["audit"]["known_pale"]["slices"][0]["measures"]
    assert {name: value for name, value in metrics["measures"].items() if name != "reading_shift_pale"} == {
        name: {**value, "rows": {**value["rows"], "matched_truth": None}} for name, value in plain["measures"].items()
    }
