"""Several real processes of one training: the numbers of one, one writer, and an end that says why."""

import contextlib
import json
import os
import signal
import sys

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from forked import ended, start, start_together, wait_for

from halfface_pipeline.run_folder.checkpoints import find_corruption
from halfface_pipeline.training.distributed import ignore_broken_pipe, process_group_guard

CONFIG = """
data: {height: 20, width: 16, num_images: 30, num_eval_images: 4}
model: {block_out_channels: [8, 16], layers_per_block: 1, norm_num_groups: 4, attention_head_dim: 8}
lr_schedule: {kind: cosine_restarts, first_period: 2, warmup_steps: 8}
training: {steps: 50, batch_size: 8, log_every: 1, checkpoint_every: 20, sample_every: null}
sampling: {num_inference_steps: 1, num_faces: 1, num_completions: 1}
output: {tracker: none}
"""
FOREVER = ["--training.steps", 100_000, "--training.checkpoint_every", 2]


@pytest.fixture
def words(tmp_path):
    """The command line of a run in tmp_path/run."""
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return ["--config", tmp_path / "tiny.yaml", "--output.dir", tmp_path / "run"]


def lines_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def last_line(file):
    text = file.read_text()
    assert "Traceback" not in text, text
    return text.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_processes", "optimizer", "hidden_half"), [(2, "muon", "bottom"), (2, "muon", "any"), (4, "adamw", "bottom")]
)
def test_more_processes_agree_with_one_over_50_steps_and_only_the_first_writes(
    words, tmp_path, num_processes, optimizer, hidden_half
):
    """Flips on, warm-up and restarts of the learning rate, epochs that end within a batch."""
    words = [*words, "--optimizer.kind", optimizer, "--model.hidden_half", hidden_half]
    assert ended(start(tmp_path / "one.txt", *words, "--output.dir", tmp_path / "one")) == 0
    ranks = [[*words, "--output.dir", tmp_path / f"rank{rank}"] for rank in range(num_processes)]
    processes = start_together(tmp_path / "out", *ranks)
    assert [ended(process, 240) for process in processes] == [0] * num_processes
    assert f"8 images on {num_processes} x cpu" in (tmp_path / "out-0").read_text()
    one, more = lines_of(tmp_path / "one"), lines_of(tmp_path / "rank0")
    assert [line["step"] for line in more] == list(range(1, 51))
    # A prepared scheduler of accelerate advances once a process.
    assert [line["lr"] for line in more] == [line["lr"] for line in one]
    losses = [[line["loss"] for line in lines] for lines in (one, more)]
    assert len(set(losses[0])) == 50
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert [path.name for path in tmp_path.glob("rank*")] == ["rank0"]


@pytest.mark.slow
def test_a_killed_process_ends_the_run_in_one_line_and_one_process_may_go_on_alone(words, tmp_path):
    first, second = start_together(tmp_path / "out", [*words, *FOREVER], [*words, *FOREVER])
    wait_for(lambda: any((tmp_path / "run").glob("checkpoints/step-*")))
    second.kill()
    assert ended(first) == 2
    line = last_line(tmp_path / "out-0")
    assert line == "train_halfface.py: error: process 0 lost another process, whose message gives the reason"
    checkpoints = list((tmp_path / "run").glob("checkpoints/step-*"))
    assert checkpoints and all(find_corruption(path) is None for path in checkpoints)
    step = max(int(path.name.split("-")[1]) for path in checkpoints)
    assert ended(start(tmp_path / "alone.txt", *words, "--training.steps", step + 2)) == 0
    assert f", steps {step} to {step + 2} of 8 images on 1 x cpu" in (tmp_path / "alone.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failing", "fault", "message"),
    [
        (1, ["--data.cache_dir", "/dev/null/cache"], "data.cache_dir is '/dev/null/cache'; it must be a folder"),
        (0, ["--output.dir", "/dev/null/run"], "output.dir is '/dev/null/run'; it must be a"),
    ],
)
def test_a_process_that_fails_says_why_and_the_other_ends_too(words, tmp_path, failing, fault, message):
    ranks = [[*words, *(fault if rank == failing else [])] for rank in range(2)]
    processes = start_together(tmp_path / "out", *ranks)
    assert [ended(process) for process in processes] == [2, 2]
    assert message in last_line(tmp_path / f"out-{failing}")
    other = 1 - failing
    assert last_line(tmp_path / f"out-{other}").endswith(
        f"process {other} lost another process, whose message gives the reason"
    )
    assert not (tmp_path / "run" / "log.jsonl").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("both", "second", "message"),
    [
        ([], ["--data.num_images", 29], "all machines must find the same training images"),
        (["--training.batch_size", 5], [], "training.batch_size is 5; it must be a multiple of 2 processes x 1 parts"),
    ],
)
def test_what_two_processes_cannot_train_is_refused_by_both(words, tmp_path, both, second, message):
    processes = start_together(tmp_path / "out", [*words, *both], [*words, *both, *second])
    assert [ended(process) for process in processes] == [2, 2]
    assert all(message in last_line(tmp_path / f"out-{rank}") for rank in range(2))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_sigterm_to_any_process_saves_and_ends_all_of_them_at_the_same_step(words, tmp_path):
    processes = start_together(tmp_path / "out", [*words, *FOREVER], [*words, *FOREVER])
    wait_for(lambda: (tmp_path / "run" / "log.jsonl").exists() and len(lines_of(tmp_path / "run")) > 3)
    os.kill(processes[1].pid, signal.SIGTERM)
    assert [ended(process) for process in processes] == [130, 130]
    first, second = (last_line(tmp_path / f"out-{rank}") for rank in range(2))
    assert first == second and "the same command resumes from step" in first
    step = int(first.split("stopped at step ")[1].split()[0])
    assert find_corruption(tmp_path / "run" / "checkpoints" / f"step-{step}") is None


@pytest.mark.slow
def test_the_number_format_of_the_launcher_counts_unless_the_configuration_has_one(words, tmp_path):
    """`Accelerator(mixed_precision="no")` would override what `accelerate launch --mixed_precision bf16` sets."""
    few = [*words, "--training.steps", 1]
    assert ended(start(tmp_path / "a.txt", *few, ACCELERATE_MIXED_PRECISION="bf16")) == 0
    assert "mixed precision bf16" in (tmp_path / "a.txt").read_text()
    few += ["--output.dir", tmp_path / "other", "--training.mixed_precision", "no"]
    assert ended(start(tmp_path / "b.txt", *few, ACCELERATE_MIXED_PRECISION="bf16")) == 0
    assert "mixed precision no" in (tmp_path / "b.txt").read_text()


def test_a_program_outlives_who_reads_what_it_says():
    for failing in ("write", "flush"):
        read, write = os.pipe()
        os.close(read)
        buffering = 1 if failing == "write" else -1
        with open(write, "w", buffering) as stream, contextlib.redirect_stdout(stream), ignore_broken_pipe():
            print("a line")
            sys.stdout.flush()
            print("another")


def test_memory_that_runs_out_on_a_cpu_is_told_in_one_line():
    message = r"^can't allocate memory: you tried to allocate \d+ bytes"
    with pytest.raises(MemoryError, match=message), process_group_guard(Accelerator(cpu=True)):
        torch.empty(2**60, dtype=torch.uint8)
