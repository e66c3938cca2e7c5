"""The commands of the README, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from halfface_pipeline import HalfFaceInpaintPipeline
from tests.fixtures import write_celeba

ROOT = Path(__file__).parents[2]
TINY = """
data: {height: 20, width: 16, num_images: 24, num_eval_images: 4}
model: {block_out_channels: [8, 16], layers_per_block: 1, norm_num_groups: 4, attention_head_dim: 8}
training: {steps: 4, batch_size: 4, log_every: 1, checkpoint_every: 2}
sampling: {num_inference_steps: 2, num_faces: 2, num_completions: 2}
output: {tracker: none}
"""
ONE = ["--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
TWO = [
    "--multi_gpu",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
]

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path):
    """A configuration file of a few steps."""
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    return file


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def command(launch_arguments, *words):
    script = [sys.executable, "-m", "accelerate.commands.launch", *launch_arguments, str(ROOT / "train_halfface.py")]
    return [*script, *(str(word) for word in words)]


def launch(*words, launch_arguments=ONE, **named):
    return subprocess.run(
        command(launch_arguments, *words), capture_output=True, text=True, timeout=240, env=environment(), **named
    )


def test_launched_training_gives_a_model_that_completes(config, tmp_path):
    result = launch("--config", config, "--output.dir", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "model saved in run" in result.stdout
    pipe = HalfFaceInpaintPipeline.from_pretrained(tmp_path / "run")
    half = np.zeros((10, 16, 3), np.uint8)
    assert len(pipe(half, num_completions=2, num_inference_steps=2).images) == 2


def test_two_processes_draw_the_numbers_of_one(config, tmp_path):
    for name, launch_arguments in {"one": ONE, "two": TWO}.items():
        result = launch("--config", config, "--output.dir", name, launch_arguments=launch_arguments, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert f"on {1 if name == 'one' else 2} x cpu" in result.stdout
    logs = [[json.loads(line) for line in (tmp_path / name / "log.jsonl").open()] for name in ("one", "two")]
    assert [line["lr"] for line in logs[0]] == [line["lr"] for line in logs[1]]
    np.testing.assert_allclose([line["loss"] for line in logs[1]], [line["loss"] for line in logs[0]], rtol=1e-5)
    result = launch("--config", config, "--training.batch_size", 5, launch_arguments=TWO, cwd=tmp_path)
    assert result.returncode != 0
    assert "training.batch_size is 5; it must be a multiple of 2 processes x 1 parts" in result.stderr


@pytest.mark.parametrize("reader", ["there", "gone"])
def test_ctrl_c_saves_a_checkpoint_and_the_same_command_goes_on(config, tmp_path, reader):
    """Also where what reads the output, as `tee` does, has ended by the same Ctrl-C."""
    words = ["--config", str(config), "--training.steps", "4000", "--output.dir", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train_halfface.py"), *words], stderr=subprocess.PIPE, text=True, env=environment()
    )
    log = tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") >= 3):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    if reader == "gone":
        process.stderr.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        step = max(int(path.name[5:]) for path in (tmp_path / "run" / "checkpoints").glob("step-*"))
        assert step == json.loads(log.read_text().splitlines()[-1])["step"]
    else:
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
        assert process.returncode == 130
        last = error.strip().splitlines()[-1]
        assert "the same command goes on from there" in last
        step = int(last.split("step ")[1].split()[0])
        assert (tmp_path / "run" / "checkpoints" / f"step-{step}").is_dir()
    result = subprocess.run(
        [sys.executable, str(ROOT / "train_halfface.py"), *words, "--training.steps", str(step + 2)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
    )
    assert result.returncode == 0, result.stderr
    assert f"steps {step} to {step + 2}" in result.stdout
    assert [json.loads(line)["step"] for line in log.open()] == list(range(1, step + 3))


def test_sigterm_while_images_are_prepared_leaves_nothing_behind(config, tmp_path):
    cache = tmp_path / "cache"
    many = ["--data.cache_dir", str(cache), "--data.num_images", "200000", "--data.height", "96", "--data.width", "96"]
    words = ["--config", str(config), *many, "--output.dir", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train_halfface.py"), *words], stderr=subprocess.PIPE, text=True, env=environment()
    )
    deadline = time.monotonic() + 120
    while not list(cache.glob("unfinished-*/images.npy")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in error
    assert os.listdir(cache) == [] and not (tmp_path / "run").exists()


def test_celeba_37m_prints_its_size_and_takes_two_steps(tmp_path):
    config = ROOT / "configs" / "celeba_37m.yaml"
    write_celeba(tmp_path / "celeba", num_per_split=8)
    words = ["--config", config, "--data.path", tmp_path / "celeba", "--output.dir", tmp_path / "run"]
    dry = launch(*words, "--dry_run")
    assert dry.returncode == 0, dry.stderr
    assert "parameters: 37,808,451 (37.8M)" in dry.stdout
    assert "training: 8 images, 16 steps of 128" in dry.stdout
    assert not (tmp_path / "run").exists()
    few = ["--training.steps", 2, "--training.batch_size", 2, "--training.log_every", 1, "--sampling.num_faces", 1]
    few += ["--sampling.num_completions", 1, "--sampling.num_inference_steps", 1]
    result = launch(*words, *few)
    assert result.returncode == 0, result.stderr
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 2
    pipe = HalfFaceInpaintPipeline.from_pretrained(tmp_path / "run")
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
def test_mistakes_end_in_one_line_before_anything_is_written(config, tmp_path, words, message):
    result = subprocess.run(
        [sys.executable, str(ROOT / "train_halfface.py"), "--config", str(config), *words, "--output.dir", "run"],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
        cwd=tmp_path,
    )
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("train_halfface.py: error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()
