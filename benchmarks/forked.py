"""Trainings that start in milliseconds: forked from a server that has imported everything once."""

import gc
import multiprocessing
import os
import runpy
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm

SCRIPT = Path(__file__).parents[1] / "train_halfface.py"
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["train_halfface", "halfface_pipeline.training.loop", "forked"])


def _run(words: Sequence[str], output: Path, environment: dict[str, str]) -> None:
    gc.freeze()  # the end of a run searches for garbage twice, and not in what was imported
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a killed process leaves behind
    os.environ.update({"ACCELERATE_USE_CPU": "true", **environment})
    # Left open: what runs at the end of the process writes to it too.
    sys.stdout = sys.stderr = output.open("w", buffering=1)
    os.dup2(sys.stdout.fileno(), 1)
    os.dup2(sys.stdout.fileno(), 2)
    sys.argv = [str(SCRIPT), *words]
    runpy.run_path(str(SCRIPT), run_name="__main__")


def start(output: Path, *words: object, **environment: str) -> multiprocessing.process.BaseProcess:
    """Starts `train_halfface.py WORDS` whose lines go to a file, or into a FIFO."""
    if not output.is_fifo():
        output.write_text("")
    process = PROCESSES.Process(target=_run, args=([str(word) for word in words], output, environment), daemon=True)
    process.start()
    return process


def start_together(output: Path, *ranks: Sequence[object]) -> list[multiprocessing.process.BaseProcess]:
    """Starts as many processes of one training as there are lists of words; rank r writes to OUTPUT-r."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(len(ranks)), "LOCAL_WORLD_SIZE": str(len(ranks)), "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": str(port)}
    return [
        start(output.with_name(f"{output.name}-{rank}"), *words, RANK=str(rank), LOCAL_RANK=str(rank), **shared)
        for rank, words in enumerate(ranks)
    ]


def ended(process: multiprocessing.process.BaseProcess, seconds: float = 120) -> int:
    """The exit status, negative for the signal that ended it."""
    process.join(seconds)
    assert process.exitcode is not None, "it goes on and on"
    return process.exitcode


def wait_for(condition: Callable[[], object], seconds: float = 60, pause: float = 0.002) -> None:
    """Returns as soon as the condition holds, looking again after each `pause` in seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not come"
        time.sleep(pause)
