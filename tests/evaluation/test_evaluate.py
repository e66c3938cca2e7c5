"""The whole evaluation on a tiny model."""

import json
import shutil
from dataclasses import replace

import PIL.Image
import pytest
import torch

from halfface_pipeline.config.schema import DataConfig, SamplingConfig
from halfface_pipeline.data.procedural import faces
from halfface_pipeline.evaluation.cache import Completed, Completions
from halfface_pipeline.evaluation.config import EvaluationConfig
from halfface_pipeline.evaluation.dataset import draw_exact_samples, factors_of
from halfface_pipeline.evaluation.evaluate import evaluate
from halfface_pipeline.evaluation.metrics.registry import find_metric
from halfface_pipeline.evaluation.report import as_markdown
from halfface_pipeline.hub.card_metrics import read_evaluation
from halfface_pipeline.inference.png_metadata import read_png
from halfface_pipeline.run_folder.lock import lock_folder

DATA = DataConfig(height=48, width=40, num_eval_images=6)


def settings(num_faces=6, num_completions=2, num_inference_steps=2, **others):
    sampling = SamplingConfig("ddpm", num_inference_steps, num_faces, num_completions)
    return EvaluationConfig(sampling, **others)


def value(metrics, measure, row="model"):
    return metrics["measures"][measure]["rows"][row]["value"]


def test_procedural_faces_with_all_baselines(tiny_pipeline, tmp_path):
    pipe, out = tiny_pipeline(48, 40), tmp_path / "out"
    training = replace(DATA, num_images=50)
    metrics = evaluate(pipe, DATA, settings(num_training=40), out, training, ["halfface", "evaluate"])
    assert json.loads((out / "metrics.json").read_text()) == metrics
    rows = set(next(iter(metrics["measures"].values()))["rows"])
    assert rows == {"model", "truth", "exact", "other_face", "nearest_training_face", "mean_completion"}

    error = [value(metrics, "determined_pixel_error", row) for row in ("exact", "other_face", "model")]
    assert 0 <= error[0] < 0.005 < 0.05 < error[1] < error[2]
    assert value(metrics, "residual_noise", "exact") < 0.02 < value(metrics, "residual_noise")
    assert value(metrics, "energy_score", "truth") == 0
    assert value(metrics, "energy_score", "exact") < value(metrics, "energy_score", "nearest_training_face")
    assert value(metrics, "energy_score", "exact") < value(metrics, "energy_score")
    assert metrics["measures"]["spread"]["rows"]["other_face"] is None
    for name, measure in metrics["measures"].items():
        model = measure["rows"]["model"]
        assert measure["meaning"] == find_metric(name).description and len(measure["by_seed"]) == 1
        assert model["value"] is None or model["num_faces"] == 1 or model["low"] <= model["value"] <= model["high"]

    assert metrics["visible_pixels"] == {"faces_kept": 6, "num_faces": 6}
    assert metrics["real"]["left_out"].startswith("num_faces is 6; distances between sets of images need at least 40")
    assert metrics["schema_version"] == 1 and metrics["command"] == ["halfface", "evaluate"]
    assert metrics["data"]["num_training_searched"] == 40 and len(metrics["model"]["weights_sha256"]) == 64
    assert set(metrics["free_factors"]) == {"clothing", "neckline", "mouth", "beard", "lipstick"}
    for factor in metrics["free_factors"].values():
        assert sum(part["model"]["value"] for part in factor["classes"].values()) == pytest.approx(1)
    for ranks in metrics["rank_histograms"].values():
        assert sum(ranks["counts"]) == 6 and len(ranks["counts"]) == 3
    table = (out / "metrics.md").read_text()
    assert "Distances between sets of images are left out: num_faces is 6" in table
    assert table == as_markdown(metrics) and "## Free factors" in table
    assert f"| determined pixel error | {error[2]:.3g} [" in table
    assert {"completions.png", "extremes.png", "ranks.png"} <= {file.name for file in out.iterdir()}
    assert PIL.Image.open(out / "completions.png").width == 3 * 84 + 4
    for name in ("completions.png", "extremes.png"):
        told = read_png(out / name)
        assert (told["Comment"], told["model"]) == ("AI-generated, hidden half invented", "unnamed")
        assert (told["sampler"], told["steps"], told["seed"]) == ("DDPMScheduler", 2, 0)


def test_an_interrupted_evaluation_resumes(tiny_pipeline, tmp_path, monkeypatch):
    pipe = tiny_pipeline(48, 40)
    whole = evaluate(pipe, DATA, settings(num_seeds=2, batch_size=4), tmp_path / "whole")
    call, calls = type(pipe).__call__, []

    def stops(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return call(*args, **kwargs)

    monkeypatch.setattr(type(pipe), "__call__", stops)
    with pytest.raises(KeyboardInterrupt):
        evaluate(pipe, DATA, settings(num_seeds=2, batch_size=4), tmp_path / "parts")
    assert not (tmp_path / "parts" / "metrics.json").exists()
    resumed = evaluate(pipe, DATA, settings(num_seeds=2, batch_size=4), tmp_path / "parts")
    assert len(calls) == 4 + 3  # of six calls, three were done
    assert resumed == whole
    first, second = resumed["measures"]["energy_score"]["by_seed"]
    assert first != second and value(resumed, "energy_score") == pytest.approx((first + second) / 2)


def write_photos(folder, num):
    folder.mkdir()
    for row, face in enumerate(faces(num, 48, 40)[0]):
        PIL.Image.fromarray(face).save(folder / f"{row:03d}.png")
    words = ["indoors", "outdoors", ""]
    lines = ["file_name,age,glasses,place,who"]
    lines += [f"{row:03d}.png,{row * 1.5},{row % 2},{words[row % 3]},person{row}" for row in range(num)]
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return DataConfig("imagefolder", str(folder), holdout=1.0, height=48, width=40)


def test_a_copy_of_the_data_shares_the_cache(tiny_pipeline, tmp_path, monkeypatch):
    pipe, data = tiny_pipeline(48, 40), write_photos(tmp_path / "photos", 8)
    whole = evaluate(pipe, data, settings(8), tmp_path / "out")
    shutil.copytree(tmp_path / "photos", tmp_path / "copy", copy_function=shutil.copyfile)
    moved = replace(data, path=str(tmp_path / "copy"))
    monkeypatch.setattr(type(pipe), "__call__", lambda *_, **__: pytest.fail("everything is in the cache"))
    again = evaluate(pipe, moved, settings(8), tmp_path / "out")
    assert again["data"] == whole["data"] | {"name": "copy"} and again["measures"] == whole["measures"]


def test_photographs_are_sliced_by_their_metadata(tiny_pipeline, tmp_path):
    data = write_photos(tmp_path / "photos", 40)
    metrics = evaluate(tiny_pipeline(48, 40), data, settings(40, 2, 1, slices=["all"]), tmp_path / "out")
    assert set(metrics["audit"]) == {"known_hair_lightness", "age", "glasses", "place"}
    assert [piece["num_faces"] for piece in metrics["audit"]["age"]["slices"]] == [10] * 4
    assert [piece["name"] for piece in metrics["audit"]["glasses"]["slices"]] == ["0", "1"]
    places = {piece["name"]: piece["num_faces"] for piece in metrics["audit"]["place"]["slices"]}
    assert places == {"indoors": 14, "outdoors": 13}
    real = metrics["real"]
    assert real["num_each"] == 20 and real["memorisation"] is None
    frechet = real["measures"]["frechet_distance"]
    assert (
        frechet["above_floor"]["value"] > 0 and frechet["rows"]["truth"]["value"] < frechet["rows"]["model"]["value"]
    )
    assert "exact" not in metrics["measures"]["energy_score"]["rows"] and metrics["free_factors"] == {}
    assert metrics["dark_hair"]["measure"] == "lightness_shift_dark_hair_like"
    table = (tmp_path / "out" / "metrics.md").read_text()
    assert "## Sets of images" in table and "| frechet distance | " in table and "20 real faces against 20" in table
    assert "| age | 0 to 14.6 | 10 |" in table and "Dark hair" in table
    assert (tmp_path / "out" / "slices.png").exists()


def test_other_halves_have_no_exact_samples(tiny_pipeline, tmp_path):
    pipe = tiny_pipeline(48, 40, hidden_half="left")
    metrics = evaluate(pipe, DATA, settings(4, 2, 1), tmp_path)
    assert "determined_pixel_error" not in metrics["measures"] and metrics["dark_hair"] is None
    assert {"seam_step_centre", "lightness_shift_sides", "energy_score", "spread"} <= set(metrics["measures"])
    assert metrics["visible_pixels"]["faces_kept"] == 4


@pytest.mark.slow
def test_exact_samples_score_the_floor(tiny_pipeline, tmp_path, monkeypatch):
    def complete(store, images, first, seed):
        hidden = draw_exact_samples(factors_of(DATA, len(images), first=first), 48, 40, 4, seed=1000 + first)
        return Completed(hidden, torch.ones(len(hidden), 4, dtype=torch.bool))

    monkeypatch.setattr(Completions, "complete", complete)
    data, training = replace(DATA, num_eval_images=48), replace(DATA, num_images=200)
    metrics = evaluate(tiny_pipeline(48, 40), data, settings(48, 4), tmp_path, training)
    ratios = metrics["ratios"]
    assert ratios["spread_to_exact"]["low"] < 1 < ratios["spread_to_exact"]["high"]
    assert ratios["energy_score_to_exact"]["low"] < 1 < ratios["energy_score_to_exact"]["high"]
    assert ratios["energy_score_to_other_face"]["high"] < 0.5
    assert metrics["tests"]["seam_gradient"]["p_value"] > 0.01
    memorised = metrics["real"]["memorisation"]["rows"]
    assert memorised["nearest_training_face"]["ratio"]["value"] < memorised["model"]["ratio"]["value"]
    for measure in metrics["real"]["measures"].values():
        assert measure["above_floor"]["low"] < 0 < measure["above_floor"]["high"]
    assert all(ranks["p_value"] > 0.001 for ranks in metrics["rank_histograms"].values())
    assert all(factor["total_variation"] < 0.3 for factor in metrics["free_factors"].values())


def test_the_card_reads_the_figures(tiny_pipeline, tmp_path):
    metrics = evaluate(tiny_pipeline(48, 40), DATA, settings(), tmp_path / "evaluation")
    found = read_evaluation(tmp_path)
    assert found["values"]["energy_score"] == pytest.approx(value(metrics, "energy_score"), abs=1e-5)
    row = next(row for row in found["metrics"] if row["metric"] == "energy score")
    assert row["model"].startswith(f"{found['values']['energy_score']:.4g} (")
    assert row["oracle"] and row["mismatched_half"]
    assert not any(name.startswith("lightness_shift") for name in found["values"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_faces": 1}, "num_faces is 1; it must be at least 2"),
        ({"num_completions": 1}, "num_completions is 1; it must be at least 2"),
        ({"num_seeds": 0}, "num_seeds is 0; it must be at least 1"),
        ({"num_training": 0}, "num_training is 0; it must be at least 1"),
        ({"batch_size": -1}, "batch_size is -1; it must be at least 1"),
        ({"slices": ["age"], "num_faces": 19}, "num_faces is 19; it must be at least 20 with slices age"),
        ({"read": ["age"], "num_faces": 19}, "num_faces is 19; it must be at least 20 with read age"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        settings(**arguments)


def test_the_last_seed_is_in_range():
    sampling = SamplingConfig(num_faces=2, num_completions=2, seed=2**63 - 2)
    assert list(EvaluationConfig(sampling, num_seeds=2).seeds) == [2**63 - 2, 2**63 - 1]
    with pytest.raises(ValueError, match=r"seed of the last repetition is 9223372036854775808; .* 0 to 2\*\*63 - 1"):
        EvaluationConfig(sampling, num_seeds=3)


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        ({}, settings(7), "num_faces is 7; the held-out part has 6"),
        ({"height": 50}, settings(), "the model generates 48x40 with 3"),
        ({"channels": 1}, settings(), "the model generates 48x40 with 3"),
        (
            {"num_eval_images": 20},
            settings(20, slices=["age"]),
            "slices has age, which the data do not have; .* columns: long_hair, ",
        ),
    ],
)
def test_unsuitable_data_are_refused_before_the_work(tiny_pipeline, tmp_path, change, config, message):
    with pytest.raises(ValueError, match=message):
        evaluate(tiny_pipeline(48, 40), replace(DATA, **change), config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_faces_trained_on_are_named_or_refused(tiny_pipeline, tmp_path):
    data = replace(write_photos(tmp_path / "photos", 12), holdout=0.5)
    for row in range(12):  # every picture a second time, under another name
        shutil.copy(tmp_path / "photos" / f"{row:03d}.png", tmp_path / "photos" / f"again-{row:03d}.png")
    metrics = evaluate(tiny_pipeline(48, 40), data, settings(2, 2, 1), tmp_path / "own", data)
    names = metrics["data"]["trained_on"]
    warning = f"**{len(names)} of these faces are also in the training part**: {', '.join(names)}."
    assert len(names) > 0 and warning in (tmp_path / "own" / "metrics.md").read_text()
    other = replace(data, holdout=1.0)
    with pytest.raises(ValueError, match=r"24 faces in it are pictures the model was trained on"):
        evaluate(tiny_pipeline(48, 40), other, settings(24, 2, 1), tmp_path / "out", data)
    assert not (tmp_path / "out").exists()


def test_two_evaluations_in_one_folder_are_refused(tiny_pipeline, tmp_path):
    with lock_folder(tmp_path, "--out", "evaluation"), pytest.raises(ValueError) as error:
        evaluate(tiny_pipeline(48, 40), DATA, settings(2, 2, 1), tmp_path)
    assert str(error.value).startswith(f"--out is {str(tmp_path)!r}, in which another evaluation is running; stop it")
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]
    evaluate(tiny_pipeline(48, 40), DATA, settings(2, 2, 1), tmp_path)
