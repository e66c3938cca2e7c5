"""Training: what a step computes, what a run leaves behind, that resuming changes nothing."""

import dataclasses
import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import DDPMPipeline
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from halfface_pipeline import FacePriorPipeline, HalfFaceInpaintPipeline
from halfface_pipeline.config.schema import NoiseConfig, OutputConfig
from halfface_pipeline.diffusion.loss import denoising_loss
from halfface_pipeline.diffusion.networks import build_network, num_parameters, training_cost
from halfface_pipeline.diffusion.samplers import training_scheduler
from halfface_pipeline.training.batches import sample_batch
from halfface_pipeline.training.distributed import TrainingStopped, stop_signals
from halfface_pipeline.training.loop import train
from tests.conftest import TINY_CONFIG, TINY_MODEL, TINY_REPORT_MODEL
from tests.fixtures import changed
from tests.oracles import GaussianDenoiser


def interrupt_at(monkeypatch, step):
    """Has this process get one Ctrl-C before it has taken this step."""
    sent = []

    def draw(seed, index, *others):
        if index == step - 1 and not sent:
            sent.append(index)
            os.kill(os.getpid(), signal.SIGINT)
        return sample_batch(seed, index, *others)

    monkeypatch.setattr("halfface_pipeline.training.batches.sample_batch", draw)


def run_folder(config):
    return Path(config.output.dir)


def last_checkpoint(config):
    folders = (run_folder(config) / "checkpoints").glob("step-*")
    return max(folders, key=lambda path: int(path.name.removeprefix("step-")))


def log_of(config, without=("images_per_second",)):
    lines = [json.loads(line) for line in (run_folder(config) / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in without} for line in lines]


@pytest.mark.parametrize(
    ("hidden_half", "prediction_type"),
    [("bottom", "epsilon"), ("bottom", "v_prediction"), ("bottom", "sample"), ("all", "epsilon")],
)
def test_the_exact_denoiser_of_a_constant_has_no_loss(tiny_pipeline, hidden_half, prediction_type):
    """What is generated is 0.3 everywhere, so its ideal denoiser recovers every target exactly."""
    model = dataclasses.replace(TINY_MODEL, hidden_half=hidden_half)
    scheduler = training_scheduler(NoiseConfig(), prediction_type)
    oracle = GaussianDenoiser(tiny_pipeline().unet, scheduler.alphas_cumprod, 0.3, 0.0, prediction_type)
    constant, other = torch.full((1, 3, 10, 16), 0.3), torch.rand(1, 3, 10, 16)

    def loss(generated):
        clean = generated if hidden_half == "all" else torch.cat([other, generated], dim=2)
        return float(denoising_loss(oracle, scheduler, model, clean, torch.tensor([600]), torch.randn(1, 3, 10, 16)))

    assert loss(constant) < 1e-9 and loss(other) > 1e-3


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_with_masks_seen_pixels_are_given_clean_and_do_not_count(tiny_pipeline, prediction_type):
    """What is hidden is 0.3, so its ideal denoiser has no loss whatever the rest is, and one when that hides too."""
    model = dataclasses.replace(TINY_MODEL, hidden_half="any")
    scheduler = training_scheduler(NoiseConfig(), prediction_type)
    oracle = GaussianDenoiser(tiny_pipeline().unet, scheduler.alphas_cumprod, 0.3, 0.0, prediction_type)
    masks = torch.zeros(2, 1, 20, 16, dtype=torch.bool)
    masks[0, :, 4:9, 3:7], masks[1, :, :12] = True, True
    clean = torch.where(masks, 0.3, torch.rand(2, 3, 20, 16))
    noise, timesteps = torch.randn(2, 3, 20, 16), torch.tensor([600])
    given = []
    oracle.register_forward_pre_hook(lambda module, arguments: given.append(arguments[0]))

    def loss(masks, clean=clean):
        return float(denoising_loss(oracle, scheduler, model, clean, timesteps, noise, None, masks))

    assert loss(masks) < 1e-9 < 1e-3 < loss(torch.ones_like(masks))
    sample = given[0]
    assert sample.shape == (2, 4, 20, 16) and torch.equal(sample[:, 3:], masks.float())
    noisy = scheduler.add_noise(clean, noise, timesteps)
    assert torch.equal(sample[:, :3], torch.where(masks, noisy, clean))
    # Every image counts alike, however much of it is hidden: the error is 0.2 all over the hidden part of both.
    wrong = torch.where(masks, 0.5, clean)
    whole = float(denoising_loss(oracle, scheduler, model, wrong[:1], timesteps, noise[:1], None, masks[:1]))
    assert loss(masks, wrong) == pytest.approx(whole) and whole > 1e-3


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of `tiny_config` that has ended."""
    place = tmp_path_factory.mktemp("finished")
    return train(dataclasses.replace(TINY_CONFIG, output=OutputConfig(dir=str(place / "run"), tracker="none")))


@pytest.fixture
def finished_config(tiny_config, finished):
    """The tiny configuration, whose run has ended."""
    shutil.copytree(finished, tiny_config.output.dir)
    return tiny_config


def test_a_run_folder_is_a_model_with_its_log_and_pictures(tiny_config, capsys):
    tiny_config = changed(tiny_config, "output", tracker="tensorboard")
    folder = train(tiny_config)
    expected = {"model_index.json", "unet", "scheduler", "pipeline.py", "README.md", "config.yaml", "log.jsonl"}
    assert expected | {"loss.png", "samples", "checkpoints"} <= {path.name for path in folder.iterdir()}
    assert [line["step"] for line in log_of(tiny_config)] == [2, 4, 6]
    line = log_of(tiny_config)[-1]
    assert set(line) == {"step", "epoch", "images_seen", "loss", "lr", "grad_norm", "skipped_steps"}
    assert (line["epoch"], line["images_seen"]) == (1.0, 24)
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    tracked = [(event.step, event.value) for event in events.Scalars("loss")]
    assert tracked == [(line["step"], pytest.approx(line["loss"])) for line in log_of(tiny_config)]
    card = (folder / "README.md").read_text()
    assert "library_name: diffusers" in card and "{{" not in card
    pipe = HalfFaceInpaintPipeline.from_pretrained(folder)
    assert pipe.scheduler.config.timestep_spacing == "trailing"
    assert pipe(torch.zeros(3, 10, 16), num_inference_steps=2).images[0].size == (16, 20)
    assert not [path for path in folder.rglob("*") if path.is_file() and not path.stat().st_mode & 0o040]
    # Redirected progress is a line per entry of the log.
    progress = [line.split(":")[0] for line in capsys.readouterr().err.splitlines() if " of 6: loss " in line]
    assert progress == ["step 2 of 6", "step 4 of 6", "step 6 of 6"]


def test_training_learns(tiny_config):
    config = changed(tiny_config, "training", steps=100, log_every=20, batch_size=8, checkpoint_every=1000)
    config = changed(config, "optimizer", lr=1e-2)
    train(config)
    losses = [line["loss"] for line in log_of(config)]
    assert losses[-1] < 0.8 * losses[0]


def test_what_is_saved_is_the_average_of_the_weights(finished):
    saved = load_file(finished / "unet" / "diffusion_pytorch_model.safetensors")
    average, trained = (
        load_file(finished / f"checkpoints/step-6/{name}.safetensors") for name in ("average", "network")
    )
    assert all(torch.equal(saved[name], average[name]) for name in average)
    assert any(not torch.equal(saved[name], trained[name]) for name in average)


def test_tensorboard_forgets_steps_that_are_taken_again(tiny_config, monkeypatch):
    tiny_config = changed(tiny_config, "output", tracker="tensorboard")
    tiny_config = changed(tiny_config, "training", checkpoint_every=3)

    def draw(seed, index, *others):
        if index == 5:
            raise RuntimeError("cut")
        return sample_batch(seed, index, *others)

    with monkeypatch.context() as patched:
        patched.setattr("halfface_pipeline.training.batches.sample_batch", draw)
        with pytest.raises(RuntimeError, match="cut"):
            train(tiny_config)
    assert [line["step"] for line in log_of(tiny_config)] == [2, 4]
    train(tiny_config)
    events = EventAccumulator(str(run_folder(tiny_config) / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [2, 4, 6]


@pytest.mark.slow  # several trainings
@pytest.mark.parametrize(
    ("family", "cut_at", "optimizer"),
    [
        ("unet2d", 1, "adamw"),
        ("unet2d", 3, "muon"),
        ("masks", 3, "adamw"),
        ("unet2d", 4, "adamw"),
        ("report", 3, "muon"),
    ],
)
def test_a_run_cut_anywhere_and_resumed_ends_with_the_same_bits(
    tiny_config, tmp_path, monkeypatch, family, cut_at, optimizer
):
    """Flips, augmentation and dropout on, checkpoints in the middle of an epoch and of a logging window."""
    tiny_config = changed(tiny_config, "optimizer", kind=optimizer)
    if family != "report":
        tiny_config = changed(tiny_config, "model", dropout=0.2, hidden_half="any" if family == "masks" else "bottom")
        tiny_config = changed(tiny_config, "training", augment=1.0)
    else:
        tiny_config = dataclasses.replace(tiny_config, model=TINY_REPORT_MODEL)
    tiny_config = changed(tiny_config, "training", checkpoint_every=1, sample_every=2)
    tiny_config = changed(tiny_config, "sampling", num_faces=1, num_completions=1, num_inference_steps=1)
    whole = changed(tiny_config, "output", dir=str(tmp_path / "whole"))
    cut = changed(tiny_config, "output", dir=str(tmp_path / "cut"))
    train(whole)
    interrupt_at(monkeypatch, cut_at)
    with pytest.raises(TrainingStopped, match=f"stopped at step {cut_at} of 6"):
        train(cut)
    train(cut)
    assert log_of(whole) == log_of(cut)
    for name in ("network", "average"):
        first, second = (load_file(last_checkpoint(config) / f"{name}.safetensors") for config in (whole, cut))
        assert all(torch.equal(first[key], second[key]) for key in first)
    sheets = [{file.name for file in (run_folder(config) / "samples").iterdir()} for config in (whole, cut)]
    assert sheets[0] == sheets[1] == {f"step-{step:07d}.png" for step in (2, 4, 6)}
    states = [
        torch.load(last_checkpoint(config) / "optimizer.pt", weights_only=True)["optimizer"] for config in (whole, cut)
    ]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    for index, state in states[0]["state"].items():
        assert all(torch.equal(state[key], states[1]["state"][index][key]) for key in state)


def test_accumulated_parts_are_the_same_step(tiny_config, tmp_path):
    configs = [
        changed(
            changed(tiny_config, "training", gradient_accumulation_steps=parts),
            "output",
            dir=str(tmp_path / str(parts)),
        )
        for parts in (1, 2, 4)
    ]
    for config in configs:
        train(config)
    losses = [[line["loss"] for line in log_of(config)] for config in configs]
    rates = [[line["lr"] for line in log_of(config)] for config in configs]
    assert rates[0] == rates[1] == rates[2] and max(rates[0]) > 0
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-5)


def test_the_average_is_saved_with_the_batch_statistics_of_the_trained_network(tiny_config):
    config = changed(tiny_config, "sampling", num_faces=1, num_completions=1, num_inference_steps=1)
    folder = train(changed(dataclasses.replace(config, model=TINY_REPORT_MODEL), "training", sample_every=2))
    saved = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    average = load_file(last_checkpoint(tiny_config) / "average.safetensors")
    trained = load_file(last_checkpoint(tiny_config) / "network.safetensors")
    statistics = {name for name in saved if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert saved.keys() - statistics == average.keys() and statistics
    assert all(torch.equal(saved[name], trained[name]) for name in statistics)
    assert all(torch.equal(saved[name], average[name]) for name in average)
    # Six steps saw a batch each; the sheets drawn in between saw none.
    assert {int(saved[name]) for name in statistics if name.endswith("tracked")} == {6}


@pytest.mark.parametrize("family", ["unet2d", "report"])
def test_a_run_of_whole_grey_images_is_a_prior_with_a_grid_of_samples(tiny_config, family):
    model = dataclasses.replace(TINY_MODEL if family == "unet2d" else TINY_REPORT_MODEL, hidden_half="all")
    data, noise = dataclasses.replace(tiny_config.data, channels=1), NoiseConfig(num_train_timesteps=200)
    config = dataclasses.replace(tiny_config, model=model, data=data, noise=noise)
    config = changed(config, "sampling", num_faces=2, num_completions=3, num_inference_steps=1)
    folder = train(config)
    index = json.loads((folder / "model_index.json").read_text())
    assert (index["_class_name"], index["height"], index["width"]) == ("FacePriorPipeline", 20, 16)
    assert index["unet"][0] == ("diffusers" if family == "unet2d" else "report_network")
    assert {"pipeline.py", "posterior.py", "masks.py"} <= {file.name for file in folder.iterdir()}
    prior = FacePriorPipeline.from_pretrained(folder)
    prior.set_progress_bar_config(disable=True)
    face = torch.rand(1, 20, 16)
    completed = prior(face, "top", method="pigdm", num_inference_steps=2, output_type="pt").images
    assert torch.equal(completed[0, :, 10:], face[:, 10:]) and not torch.equal(completed[0, :, :10], face[:, :10])
    with PIL.Image.open(folder / "samples" / "step-0000006.png") as picture:
        assert picture.size == (3 * (16 * 5 + 4) + 4, 2 * (20 * 5 + 4) + 16)
        assert (picture.text["Comment"], picture.text["sampler"]) == ("AI-generated", "ddpm")
    pipe = DDPMPipeline.from_pretrained(folder, trust_remote_code=family == "report")
    pipe.set_progress_bar_config(disable=True)
    assert (pipe.unet.config.in_channels, pipe.unet.config.out_channels) == (1, 1)
    assert pipe.scheduler.config.timestep_spacing == "trailing"
    assert family == "unet2d" or pipe.unet.config.num_train_timesteps == 200
    image = pipe(num_inference_steps=2).images[0]
    assert (image.mode, image.size) == ("L", (16, 20))
    card = (folder / "README.md").read_text()
    assert "unconditional-image-generation" in card and "grey images of 20x16" in card and "{{" not in card
    assert "FacePriorPipeline.from_pretrained(" in card


@pytest.mark.parametrize(("family", "channels"), [("unet2d", 3), ("report", 1)])
def test_a_run_for_any_mask_shows_completions_under_masks(tiny_config, family, channels):
    """Of 20x17 images, whose sides need not be multiples of what the network halves."""
    model = dataclasses.replace(TINY_MODEL if family == "unet2d" else TINY_REPORT_MODEL, hidden_half="any")
    data = dataclasses.replace(tiny_config.data, channels=channels, width=17)
    config = changed(dataclasses.replace(tiny_config, model=model, data=data), "sampling", scheduler="dpm++")
    folder = train(config)
    pipe = FacePriorPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.trained_for_masks and pipe.image_shape == (channels, 20, 17)
    assert (pipe.unet.config.in_channels, pipe.unet.config.out_channels) == (channels + 1, channels)
    with PIL.Image.open(folder / "samples" / "step-0000006.png") as picture:
        assert picture.size == (4 * (17 * 5 + 4) + 4, 2 * (20 * 5 + 4) + 16)
        assert (picture.text["Comment"], picture.text["sampler"]) == ("AI-generated, hidden part invented", "dpm++")
    face = torch.rand(channels, 20, 17)
    completed = pipe(face, "top", num_inference_steps=2, output_type="pt").images
    assert torch.equal(completed[0, :, 10:], face[:, 10:]) and not torch.equal(completed[0, :, :10], face[:, :10])
    card = (folder / "README.md").read_text()
    assert "pipeline_tag: image-to-image" in card and "a mask" in card and "{{" not in card


def test_a_finished_run_is_left_as_it_is(finished_config):
    before = (run_folder(finished_config) / "log.jsonl").read_text()
    train(finished_config)
    assert (run_folder(finished_config) / "log.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("optimizer", {"lr": 1e-2}, r"optimizer.lr: 0.0003 -> 0.01\); give --output.accept_changes true"),
        ("model", {"dropout": 0.5}, r"dropout: 0.0 -> 0.5\); choose another folder.*--output.overwrite"),
        ("training", {"steps": 4}, r"training.steps is 4; the run in .* has already taken 6"),
    ],
)
def test_a_folder_with_other_settings_is_refused_and_named(finished_config, section, values, message):
    with pytest.raises(ValueError, match=message):
        train(changed(finished_config, section, **values))


def test_a_folder_with_other_settings_may_be_overwritten(finished_config):
    other = changed(changed(finished_config, "optimizer", lr=1e-2), "output", overwrite=True)
    train(other)
    assert log_of(other)[0]["lr"] == pytest.approx(1e-2, rel=0.2)


@pytest.mark.parametrize("damaged", [b"", b"\xff\xfe"])
def test_a_run_whose_settings_cannot_be_read_is_refused_unless_overwritten(finished_config, damaged):
    folder = run_folder(finished_config)
    whole = (folder / "config.yaml").read_bytes()
    (folder / "config.yaml").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"run'.*config.yaml is not a configuration.*--output.overwrite"):
        train(finished_config)
    assert (folder / "config.yaml").read_bytes() == damaged and (folder / "checkpoints" / "step-6").is_dir()
    train(changed(changed(finished_config, "output", overwrite=True), "training", steps=2))
    assert b"steps: 2" in (folder / "config.yaml").read_bytes() != whole
    assert [path.name for path in (folder / "checkpoints").glob("step-*")] == ["step-2"]


def test_a_folder_with_something_else_in_it_is_refused(tiny_config):
    run_folder(tiny_config).mkdir()
    (run_folder(tiny_config) / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"must be a new or empty folder"):
        train(changed(tiny_config, "output", overwrite=True))
    assert [path.name for path in run_folder(tiny_config).iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(("log_every", "max_bad_steps"), [(1, 3), (1000, 100)])
def test_weights_that_explode_are_never_saved_and_the_last_good_ones_are_kept(tiny_config, log_every, max_bad_steps):
    """At first the rate is so low that the weights stand still; then it is absurd, and every loss is finite or not."""
    good = changed(tiny_config, "training", log_every=log_every, checkpoint_every=1, keep_last=1, steps=3)
    good = changed(good, "optimizer", max_grad_norm=None, lr=1e-6)
    train(good)
    files = [run_folder(good) / "unet" / "diffusion_pytorch_model.safetensors", last_checkpoint(good) / "optimizer.pt"]
    before = [file.read_bytes() for file in files]
    wild = changed(changed(good, "optimizer", lr=1e3), "output", accept_changes=True)
    wild = changed(wild, "training", steps=12, max_bad_steps=max_bad_steps)
    skipped = min(max_bad_steps + 1, 8)
    advice = (
        rf"step {4 + skipped}: .*{skipped} steps in a row were skipped, the checkpoint of step 3 is kept.*lr 3\.3e\+02"
    )
    with pytest.raises(FloatingPointError, match=advice):
        train(wild)
    assert [file.read_bytes() for file in files] == before
    train(changed(changed(good, "training", steps=5), "output", accept_changes=True))
    assert last_checkpoint(good).name == "step-5"


@pytest.mark.slow  # several trainings
@pytest.mark.parametrize("model", [TINY_MODEL, TINY_REPORT_MODEL], ids=["unet2d", "report"])
def test_a_step_with_a_loss_not_believed_is_skipped_and_counted_also_after_a_resume(
    tiny_config, tmp_path, monkeypatch, model
):
    """The bound lies among the losses of an untouched run, so that some of its steps are skipped."""
    tiny_config = dataclasses.replace(tiny_config, model=model)
    base = changed(tiny_config, "training", steps=12, log_every=1, checkpoint_every=12)
    train(changed(base, "output", dir=str(tmp_path / "untouched")))
    losses = sorted(line["loss"] for line in log_of(changed(base, "output", dir=str(tmp_path / "untouched"))))
    config = changed(base, "training", max_loss=(losses[-2] + losses[-3]) / 2)
    train(config)
    lines = log_of(config)
    assert lines[-1]["skipped_steps"] >= 1 and all(line["loss"] <= config.training.max_loss for line in lines)
    skipped = {*range(1, 13)} - {line["step"] for line in lines}
    assert len(skipped) <= lines[-1]["skipped_steps"] <= len(skipped) + 1
    state = torch.load(last_checkpoint(config) / "optimizer.pt", weights_only=True)["optimizer"]["state"]
    assert {int(moments["step"]) for moments in state.values()} == {12 - lines[-1]["skipped_steps"]}
    # A batch that is thrown away leaves nothing in the statistics of batch normalization either.
    weights = load_file(last_checkpoint(config) / "network.safetensors")
    batches = {int(weights[name]) for name in weights if name.endswith("num_batches_tracked")}
    assert batches == (set() if model is TINY_MODEL else {12 - lines[-1]["skipped_steps"]})
    cut = changed(config, "output", dir=str(tmp_path / "cut"))
    interrupt_at(monkeypatch, next(step for step in sorted(skipped) if step + 1 not in skipped))
    with pytest.raises(TrainingStopped, match="resumes from step"):
        train(cut)
    train(cut)
    assert log_of(cut) == lines
    first, second = (load_file(last_checkpoint(each) / "network.safetensors") for each in (config, cut))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_sheets_drawn_in_between_change_nothing_in_what_is_trained(tiny_config, finished):
    """The average of the weights is swapped in for them and must not stay."""
    often = train(changed(tiny_config, "training", sample_every=1))
    first, second = (load_file(run / "checkpoints/step-6/network.safetensors") for run in (finished, often))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_tracker_that_is_not_there_is_an_error_and_not_a_run_without_one(tiny_config, monkeypatch):
    import accelerate.tracking

    monkeypatch.setattr(accelerate.tracking, "_available_trackers", [])
    with pytest.raises(ValueError, match=r"output.tracker is 'tensorboard', .*; pip install tensorboard"):
        train(changed(tiny_config, "output", tracker="tensorboard"))
    assert not run_folder(tiny_config).exists()


def test_a_sheet_that_fails_costs_no_step_and_is_drawn_by_the_same_command(tiny_config, tmp_path):
    config = changed(changed(tiny_config, "training", sample_every=3), "lr_schedule", kind="constant")
    whole = train(changed(config, "output", dir=str(tmp_path / "whole" / "run")))
    run = train(changed(config, "training", steps=2))
    (run / "samples" / "step-0000002.png").unlink()
    (run / "samples").rmdir()
    (run / "samples").touch()  # no folder can be made in its place
    with pytest.raises(FileExistsError):
        train(config)
    assert {path.name for path in (run / "checkpoints").glob("step-*")} == {"step-2", "step-3"}
    (run / "samples").unlink()
    train(config)
    sheets = [{path.name: path.read_bytes() for path in (each / "samples").iterdir()} for each in (run, whole)]
    assert sheets[0] == sheets[1] and len(sheets[0]) == 2


def test_a_stopped_run_finished_where_it_stands_is_published(tiny_config, monkeypatch):
    interrupt_at(monkeypatch, 1)
    with pytest.raises(TrainingStopped):
        train(tiny_config)
    monkeypatch.undo()
    assert not (run_folder(tiny_config) / "model_index.json").exists()
    train(changed(tiny_config, "training", steps=1))
    HalfFaceInpaintPipeline.from_pretrained(run_folder(tiny_config))


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("objective", {"prediction_type": "sample"}, "scheduler is 'euler-a'; a model that predicts the clean image"),
        ("output", {"dir": None}, "output.dir is None"),
        ("data", {"num_eval_images": 3, "source": "imagefolder", "path": "nowhere"}, "data.path is 'nowhere'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(tiny_config, section, values, message):
    config = changed(changed(tiny_config, "sampling", scheduler="euler-a"), section, **values)
    with pytest.raises(ValueError, match=message):
        train(config)
    assert not run_folder(tiny_config).exists()


def test_a_folder_where_nothing_was_saved_yet_may_be_configured_anew(tiny_config):
    with pytest.raises(FloatingPointError):
        train(changed(tiny_config, "optimizer", lr=1e30, max_grad_norm=None))
    train(tiny_config)
    assert log_of(tiny_config)[-1]["step"] == 6


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample"])
def test_bf16_without_average_and_with_min_snr_trains_and_saves_the_trained_weights(tiny_config, prediction_type):
    config = changed(tiny_config, "training", mixed_precision="bf16", ema_decay=None)
    config = changed(config, "objective", prediction_type=prediction_type, min_snr_gamma=5.0)
    folder = train(config)
    saved = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    trained = load_file(last_checkpoint(config) / "network.safetensors")
    assert all(torch.equal(saved[name], trained[name]) for name in trained)
    assert not load_file(last_checkpoint(config) / "average.safetensors")


def test_ctrl_c_and_sigterm_become_a_request_and_a_later_one_stops_at_once(monkeypatch):
    monkeypatch.setattr("halfface_pipeline.training.distributed.SAME_REQUEST_SECONDS", 0.2)
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)
        with stop_signals() as request:
            assert not request.requested
            os.kill(os.getpid(), number)
            assert request.requested
            os.kill(os.getpid(), signal.SIGTERM)  # what the launcher hands on
            time.sleep(0.25)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        assert signal.getsignal(number) is before


@pytest.mark.parametrize(("hidden_half", "channels", "rows"), [("bottom", 6, 10), ("all", 3, 20), ("any", 4, 20)])
def test_the_cost_counts_the_parameters_and_a_convolution_of_the_real_network(hidden_half, channels, rows):
    model = dataclasses.replace(TINY_MODEL, hidden_half=hidden_half)
    network = build_network(model, 20, 16)
    parameters, operations, _ = training_cost(model, 20, 16)
    assert parameters == num_parameters(network) and network.config.in_channels == channels
    first_convolution = 2 * channels * 8 * 9 * rows * 16
    assert operations > first_convolution


def test_sampling_that_fails_is_refused_before_training(tiny_config):
    config = changed(tiny_config, "noise", num_train_timesteps=20)
    with pytest.raises(ValueError, match="num_inference_steps is 20, for which the timesteps of DPMSolver"):
        train(changed(config, "sampling", scheduler="dpm++-single", num_inference_steps=20))
    assert not run_folder(tiny_config).exists()


def test_a_warm_up_longer_than_the_run_is_named(tiny_config):
    with pytest.warns(UserWarning, match=r"warmup_steps is 12, more than the run's 6 steps: .* to 50% of"):
        train(changed(tiny_config, "lr_schedule", warmup_steps=12))
