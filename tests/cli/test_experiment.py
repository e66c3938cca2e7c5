"""`halfface experiment`, called as the shell calls it."""

import csv
import dataclasses
import json
import os
import shutil

import pytest

from halfface_pipeline.cli.main import main
from halfface_pipeline.training.loop import train
from tests.conftest import TINY_MODEL, tiny_prior

FEW = ["--num-faces", "2", "-n", "2"]


def run(*words):
    return main(["experiment", *(str(word) for word in words)])


EXPERIMENTS = {
    "forward": [],
    "schedule": ["--step-sizes", "10", "40"],
    "step-size": [*FEW, "--step-sizes", "50", "--variance", "fixed_small"],
    "variance": [*FEW, "--step-sizes", "50"],
    "unseen": [*FEW, "--steps", "2"],
    "samplers": [*FEW, "--schedulers", "ddim", "dpm++", "--steps", "2", "4"],
    "objectives": [*FEW, "--steps", "2"],
    "training": [],
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_writes_its_files(trained_run, tmp_path, capsys, name):
    assert run(name, "--quick", "--model", trained_run, "--out", tmp_path, *EXPERIMENTS[name]) == 0
    stem = name.replace("-", "_")
    for ending in ("png", "csv", "md", "json"):
        assert (tmp_path / f"{stem}.{ending}").stat().st_size > 0
    whole = json.loads((tmp_path / f"{stem}.json").read_text())
    assert whole["experiment"] == name and str(trained_run) in str(whole["settings"]["model"])
    with (tmp_path / f"{stem}.csv").open() as opened:
        assert len(list(csv.DictReader(opened))) == len(whole["rows"])
    assert (tmp_path / f"{stem}.md").read_text() in capsys.readouterr().out


def test_the_same_words_give_the_same_table(trained_run, tmp_path):
    for out in ("a", "b"):
        words = ["--model", trained_run / "checkpoints" / "step-15", *FEW, "--schedulers", "ddpm", "--steps", "2"]
        assert run("samplers", *words, "--out", tmp_path / out) == 0
    assert (tmp_path / "a" / "samplers.csv").read_bytes() == (tmp_path / "b" / "samplers.csv").read_bytes()


@pytest.mark.parametrize("name", ["schedule_steps.csv", "schedule.png"])
def test_files_of_others_are_not_overwritten(tmp_path, capsys, name):
    (tmp_path / name).write_text("mine")
    assert run("schedule", "--step-sizes", "10", "--out", tmp_path) == 2
    assert f"it would overwrite {tmp_path / name}" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
    (tmp_path / name).unlink()
    for _ in range(2):  # its own it replaces
        assert run("schedule", "--step-sizes", "10", "--out", tmp_path) == 0
    if name.endswith(".csv"):  # but not one that was edited an hour later
        later = (tmp_path / name).stat().st_mtime + 3600
        os.utime(tmp_path / name, (later, later))
        assert run("schedule", "--step-sizes", "10", "--out", tmp_path) == 2
        assert f"it would overwrite {tmp_path / name}" in capsys.readouterr().err


def test_samplers_measured_inside_a_run_enter_its_card(trained_run, tmp_path, capsys):
    folder = shutil.copytree(trained_run, tmp_path / "run")
    words = ["--model", folder, *FEW, "--schedulers", "dpm++", "--steps", "2"]
    assert run("samplers", *words, "--out", tmp_path / "elsewhere") == 0
    assert "How many steps are enough was not measured" in (folder / "README.md").read_text()
    assert run("samplers", *words, "--out", folder / "samplers") == 0
    assert f"model card: {folder / 'README.md'}" in capsys.readouterr().out
    assert "| dpm++ | 2 |" in (folder / "README.md").read_text()


def test_checkpoints_are_models_beside_the_run(trained_run, tmp_path):
    checkpoint = trained_run / "checkpoints" / "step-30"
    words = ["--model", trained_run, checkpoint, *FEW, "--steps", "2", "--out", tmp_path]
    assert run("objectives", *words) == 0
    rows = json.loads((tmp_path / "objectives.json").read_text())["rows"]
    assert [row["model"] for row in rows[:2]] == ["run", "run step-30"]
    assert list(rows[0].values())[1:] == list(rows[1].values())[1:]


def test_the_default_schedule_is_the_reports(tmp_path):
    assert run("schedule", "--out", tmp_path, "--step-sizes", 40) == 0
    settings = json.loads((tmp_path / "schedule.json").read_text())["settings"]
    assert (settings["num_train_timesteps"], settings["beta_start"], settings["beta_end"]) == (1000, 1e-4, 0.02)


BAD = {
    "step size is 3; it must divide the 1000 trained timesteps": ["step-size", "--step-sizes", "3"],
    "it must be below 50.2": ["step-size", "--step-sizes", "100"],
    "variance_type is 'big'; it must be fixed_small": ["step-size", "--variance", "big"],
    "scheduler is 'fast'; it must be one of ddpm": ["samplers", "--schedulers", "fast"],
    "num_inference_steps is 0": ["samplers", "--steps", "0"],
    "num_faces is 9; the held-out part has 4": ["samplers", "--num-faces", "9"],
    "num_faces is 9; the part trained on has 8": ["unseen", "--num-faces", "9"],
    "num_completions is 0": ["samplers", "-n", "0"],
}


@pytest.mark.parametrize("message", BAD)
def test_mistakes_end_in_one_line(trained_run, tmp_path, capsys, message):
    name, *words = BAD[message]
    few = [] if "--num-faces" in words else ["--num-faces", "2"]
    assert run(name, *words, *few, "--model", trained_run, "--out", tmp_path / "out") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1] and lines[-1].startswith("halfface experiment: error:")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["unseen", "objectives"])
def test_unsuitable_models_are_refused(tiny_pipeline, tmp_path, capsys, name):
    model = tmp_path / "model"
    tiny_pipeline(hidden_half="left").save_pretrained(model)
    assert run(name, "--model", model, *FEW, "--out", tmp_path / "out") == 2
    message = {"unseen": "holds no config.yaml", "objectives": "hidden_half is 'left'"}[name]
    assert message in capsys.readouterr().err


def test_a_prior_is_compared_with_a_conditional_model(trained_run, tiny_config, tmp_path, capsys):
    whole = train(dataclasses.replace(tiny_config, model=dataclasses.replace(TINY_MODEL, hidden_half="all")))
    words = ["--model", trained_run, "--prior", whole, *FEW, "--steps", "5", "--quick", "--out", tmp_path / "out"]
    assert run("prior", *words, "--methods", "replace", "pigdm") == 0
    assert (tmp_path / "out" / "prior_intervals.csv").stat().st_size > 0
    assert "| pigdm |" in capsys.readouterr().out
    assert run("prior", *words, "--methods", "magic") == 2
    assert "--methods has 'magic'; it must be of replace" in capsys.readouterr().err
    assert run("prior", *words[:3], trained_run, *words[4:]) == 2
    assert "unet maps 6 channels to 3" in capsys.readouterr().err
    masked = tmp_path / "masked"
    tiny_prior(hidden_half="any").save_pretrained(masked)
    out = tmp_path / "three"
    assert run("prior", *words[:-1], out, "--masked", masked, "--methods", "replace") == 0
    assert "| any mask ddpm 5 | 5 |" in capsys.readouterr().out
    for option, model, kind in (("prior", masked, "all"), ("masked", whole, "any")):
        assert run("prior", *words[:-1], tmp_path / "no", f"--{option}", model) == 2
        assert f"--{option} is '{model}'; it must be a model of model.hidden_half {kind}" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_no_model(tmp_path, capsys):
    (tmp_path / "run" / "checkpoints" / "step-1").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("{}")
    assert run("samplers", "--model", tmp_path / "run" / "checkpoints" / "step-1", "--out", tmp_path / "out") == 2
    assert "is damaged" in capsys.readouterr().err


def test_a_checkpoint_that_draws_whole_images_is_refused(tiny_config, tmp_path, capsys):
    config = dataclasses.replace(tiny_config, model=dataclasses.replace(TINY_MODEL, hidden_half="all"))
    checkpoint = train(config) / "checkpoints" / f"step-{config.training.steps}"
    assert run("samplers", "--model", checkpoint, "--out", tmp_path / "out") == 2
    assert "not of a half: its model.hidden_half is" in capsys.readouterr().err
