"""The commands of the README: two real processes, signals, and mistakes that end in one line."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import ended, start, wait_for

from halfface_pipeline import HalfFaceInpaintPipeline
from tests.fixtures import write_celeba
from train_halfface import main

ROOT = Path(__file__).parents[2]
TINY = """
data: {height: 20, width: 16, num_images: 24, num_eval_images: 4}
model: {block_out_channels: [8, 16], layers_per_block: 1, norm_num_groups: 4, attention_head_dim: 8}
training: {steps: 4, batch_size: 4, log_every: 1, checkpoint_every: 2}
sampling: {num_inference_steps: 2, num_faces: 2, num_completions: 2}
output: {tracker: none}
"""
NEITHER = ["--mixed_precision", "no", "--dynamo_backend", "no"]
TWO = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", *NEITHER]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


@pytest.fixture
def config(tmp_path):
    """A configuration file of a few steps."""
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    return str(file)


@pytest.mark.slow
def test_two_launched_processes_train_a_model_that_completes(config, tmp_path):
    launcher = [sys.executable, "-m", "accelerate.commands.launch", *TWO]
    command = [*launcher, ROOT / "train_halfface.py", "--config", config, "--output.dir", "run"]
    how = {"capture_output": True, "text": True, "timeout": 240, "env": ENVIRONMENT, "cwd": tmp_path}
    result = subprocess.run(command, **how)
    assert result.returncode == 0, result.stderr
    assert "on 2 x cpu" in result.stdout and "model saved in run" in result.stdout
    pipe = HalfFaceInpaintPipeline.from_pretrained(tmp_path / "run")
    half = np.zeros((10, 16, 3), np.uint8)
    assert len(pipe(half, num_completions=2, num_inference_steps=2).images) == 2


@pytest.mark.slow
def test_ctrl_c_saves_a_checkpoint_and_the_same_command_goes_on(config, tmp_path):
    """Also where what reads the output, as `tee` does, has ended by the same Ctrl-C."""
    words = ["--config", config, "--training.steps", "4000", "--output.dir", str(tmp_path / "run")]
    os.mkfifo(tmp_path / "tee")
    process, log = start(tmp_path / "tee", *words), tmp_path / "run" / "log.jsonl"
    with (tmp_path / "tee").open():
        wait_for(lambda: log.exists() and log.read_text().count("\n") >= 3, 200)
    os.kill(process.pid, signal.SIGINT)
    assert ended(process, 60) == 130
    step = max(int(path.name[5:]) for path in (tmp_path / "run" / "checkpoints").glob("step-*"))
    assert step == json.loads(log.read_text().splitlines()[-1])["step"]
    assert ended(start(tmp_path / "out.txt", *words, "--training.steps", step + 2)) == 0
    assert f"steps {step} to {step + 2}" in (tmp_path / "out.txt").read_text()
    assert [json.loads(line)["step"] for line in log.open()] == list(range(1, step + 3))


@pytest.mark.slow
def test_sigterm_while_images_are_prepared_leaves_nothing_behind(config, tmp_path):
    cache = tmp_path / "cache"
    many = ["--data.cache_dir", str(cache), "--data.num_images", "20000", "--data.height", "96", "--data.width", "96"]
    process = start(tmp_path / "out.txt", "--config", config, *many, "--output.dir", tmp_path / "run")
    wait_for(lambda: "preparing" in (tmp_path / "out.txt").read_text(), 200)  # tqdm's bar is not cut while it is made
    assert list(cache.glob("*/*images.npy"))
    os.kill(process.pid, signal.SIGTERM)
    assert ended(process, 60) == 130 and "Traceback" not in (tmp_path / "out.txt").read_text()
    assert [file.name for file in cache.glob("*/*")] == [".lock"] and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_celeba_37m_prints_its_size_and_takes_two_steps(tmp_path, capsys):
    run = tmp_path / "run"
    write_celeba(tmp_path / "celeba", num_per_split=8)
    words = ["--config", str(ROOT / "configs" / "celeba_37m.yaml"), "--data.path", str(tmp_path / "celeba")]
    words += ["--output.dir", str(run)]
    assert main([*words, "--dry_run"]) == 0
    printed = capsys.readouterr().out
    assert "parameters: 37,808,451 (37.8M)" in printed and "training: 8 images, 16 steps of 128" in printed
    assert not run.exists()
    few = "--training.steps 2 --training.batch_size 2 --training.log_every 1 --output.tracker none"
    few += " --sampling.num_faces 1 --sampling.num_completions 1 --sampling.num_inference_steps 1"
    assert main([*words, *few.split()]) == 0
    assert len((run / "log.jsonl").read_text().splitlines()) == 2
    pipe = HalfFaceInpaintPipeline.from_pretrained(run)
    assert (pipe.config.height, pipe.config.width, pipe.config.known_layout) == (108, 88, "stacked")
    assert (pipe.scheduler.config.prediction_type, pipe.scheduler.config.variance_type) == ("epsilon", "fixed_large")
    assert sum(parameter.numel() for parameter in pipe.unet.parameters()) == 37_808_451
    assert torch.equal(pipe.scheduler.betas, torch.linspace(1e-4, 0.02, 1000))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--training.stepz", "3"], "--training.stepz"),
        (["--data.source", "imagefolder", "--data.path", "nowhere"], "nowhere"),
        (["--optimizer.lr", "0"], "optimizer.lr is 0"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_is_written(config, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "no")  # as the launcher, whose traceback follows, sets it
    assert main(["--config", config, *words, "--output.dir", str(tmp_path / "run")]) == 2
    *_, above, last = capsys.readouterr().err.strip().splitlines()
    assert last.startswith("train_halfface.py: error: ") and message in last
    assert "is accelerate's, of the launcher" in above
    assert not (tmp_path / "run").exists()
