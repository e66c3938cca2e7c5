"""What checkpoints cost of the training time at the default interval, by configuration; prints JSON.

`python benchmarks/checkpoint_cost.py [--configs FILE ...] [--batch N] [--rounds N] [--out FILE]`. A checkpoint is the
one that training writes, with optimizer state, average and digests, brought to the disk, and the deletion of the one
it supersedes; before it a forward pass looks whether the weights are sound. A step is timed with few images and scaled
to the configuration's batch. Where steps are faster than here, as on a GPU, `step_ms_at_limit` tells down to which
length of a step the share stays below 3 %.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from steps import Step
from timing import machine

from halfface_pipeline.config.files import parse_arguments
from halfface_pipeline.config.schema import TrainingConfig
from halfface_pipeline.diffusion.networks import build_network, num_parameters
from halfface_pipeline.training.state import TrainingState

LIMIT = 0.03
CONFIGS = ("configs/demo.yaml", "configs/imagefolder.yaml", "configs/celeba_37m.yaml")


def cost(file: str, batch: int, rounds: int) -> dict[str, Any]:
    """Seconds of a checkpoint and of a step, and their share at the default interval."""
    config = parse_arguments(["--config", file])[0]
    torch.manual_seed(0)
    network = build_network(config.model, config.data.height, config.data.width)
    step = Step(config, network, False, False, True)
    images = torch.rand(batch, 3, config.data.height, config.data.width) * 2 - 1
    step(images)
    stepping, checking, saving = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        state = TrainingState(Accelerator(cpu=True), network, step.optimizer, config.training.ema_decay)
        state.save(Path(folder), 1)
        for _ in range(rounds):
            start = time.perf_counter()
            step(images)
            stepping.append((time.perf_counter() - start) / batch * config.training.batch_size)
            start = time.perf_counter()
            with torch.no_grad():
                step.loss(images)
            checking.append((time.perf_counter() - start) / batch * config.training.batch_size)
            state.step += 1
            start = time.perf_counter()
            state.save(Path(folder), 1)
            saving.append(time.perf_counter() - start)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    every, seconds = TrainingConfig().checkpoint_every, statistics.median(saving)
    interval = every * statistics.median(stepping)
    return {
        "parameters": num_parameters(network),
        "checkpoint_mib": round(size / 2**20),
        "checkpoint_seconds": round(seconds, 2),
        "checkpoint_seconds_most": round(max(saving), 2),
        "check_seconds": round(statistics.median(checking), 2),
        "batch_size": config.training.batch_size,
        "step_seconds": round(statistics.median(stepping), 3),
        "checkpoint_every": every,
        "percent_of_training": round(100 * (seconds + statistics.median(checking)) / interval, 3),
        "step_ms_at_limit": round(1e3 * seconds / (LIMIT * every - 1), 1),
    }


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures each configuration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", nargs="+", default=list(CONFIGS))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", help="file that also gets the JSON")
    options = parser.parse_args(words)
    rows = {Path(file).stem: cost(file, options.batch, options.rounds) for file in options.configs}
    result = {"benchmark": "checkpoint_cost", **machine(), "batch_timed": options.batch, "configurations": rows}
    print(json.dumps(result, indent=1))
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    main()
