"""Distributed helpers: set-up, batch split, stop signals, process-group shutdown, and output without a reader."""

import contextlib
import gc
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedType, InitProcessGroupKwargs, parse_flag_from_env

from ..config.schema import TRACKERS, TrainingConfig
from ..inference.speed import keep_freed_memory, training_precision

LONGEST_WAIT = timedelta(hours=6)
"""Timeout of collective operations. Rank 0 alone prepares images and draws sheets, for which NCCL's default of ten
minutes may be too short; a process that has died is still noticed at once."""

SAME_REQUEST_SECONDS = 2.0
"""Signals within this time are one request: batch systems signal every process, and launchers forward signals."""
SIGNS_OF_A_LOST_PROCESS = ("Connection closed by peer", "Connection reset by peer", "NCCL", "Broken pipe")
"""In the errors of gloo and NCCL when the other end of a reduction has died."""

NO_MEMORY = "DefaultCPUAllocator:"
"""In the error of torch when the memory of a CPU has run out; that of a GPU is an error of its own."""


class PeerProcessDied(Exception):  # noqa: N818 -- the error is the other process's
    """Another process of this training has ended."""


class TrainingStopped(Exception):  # noqa: N818 -- a requested end, not an error
    """A signal has stopped the training; the message says from which step the same command resumes."""


class _ReaderlessStream:
    """A stream that discards its output, instead of raising, once its reader is gone."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError:
            self._discard_output()
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError:
            self._discard_output()

    def _discard_output(self) -> None:
        # What is still buffered is discarded too; flushing it at exit would fail again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def ignore_broken_pipe() -> Iterator[None]:
    """Discards standard output and error inside the context once they have no reader.

    Ctrl-C also ends a `tee` that reads them, and a closed terminal is gone before the checkpoint is saved.
    """
    streams: list[Any] = [_ReaderlessStream(sys.stdout), _ReaderlessStream(sys.stderr)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        yield


@contextlib.contextmanager
def process_group_guard(accelerator: Accelerator) -> Iterator[None]:
    """Ends trackers and process group after the context, also after an error.

    The data-parallel wrapper must be gone by then. It holds the last reference to the process group otherwise, and
    its destructor joins gloo's threads without giving up the interpreter lock that they may be waiting for.
    """
    print_error = threading.excepthook

    def print_unless_raised(error: threading.ExceptHookArgs) -> None:
        # TensorBoard writes in its own thread; its errors are raised again by the next log entry.
        if not issubclass(error.exc_type, OSError):
            print_error(error)

    threading.excepthook = print_unless_raised
    try:
        yield
    except BaseException as error:
        if isinstance(error, RuntimeError) and NO_MEMORY in str(error):
            raise MemoryError(str(error).splitlines()[0].partition(NO_MEMORY)[2].strip()) from None
        if accelerator.num_processes > 1:
            traceback.clear_frames(error.__traceback__)
            if isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS_OF_A_LOST_PROCESS):
                raise PeerProcessDied(
                    f"process {accelerator.process_index} lost another process, whose message gives the reason"
                ) from None
        raise
    finally:
        accelerator.free_memory()
        gc.collect()
        try:
            accelerator.end_training()
        except OSError as error:
            warnings.warn(f"the tracker lost its last entries: {error}", stacklevel=2)
        finally:
            threading.excepthook = print_error


def make_accelerator(training: TrainingConfig, tracker: str, run: Path) -> Accelerator:
    """The accelerator of a run, with its precision and tracker; ValueError where the tracker is not installed."""
    if tracker != "none" and tracker not in map(str, get_available_trackers()):
        raise ValueError(
            f"output.tracker is {tracker!r}, which is not installed; pip install {TRACKERS[tracker]}, or use 'none'"
        )
    cuda = torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU")
    device = torch.device("cuda" if cuda else "cpu")
    if training.speed == "auto" and device.type == "cpu":
        keep_freed_memory()
    return Accelerator(
        mixed_precision=training_precision(training.speed, training.mixed_precision, device),
        log_with=None if tracker == "none" else tracker,
        project_dir=run,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
    )


def local_rows(training: TrainingConfig, accelerator: Accelerator) -> range:
    """The places of the global batch that this process takes.

    Args:
        training: Batch size and accumulation.
        accelerator: Accelerator of the run.

    Returns:
        An equal share per process.

    Raises:
        ValueError: If accelerate is set up to compute something else than the configuration says.
    """
    kind, num_processes = accelerator.distributed_type, accelerator.num_processes
    if kind not in (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        raise ValueError(f"accelerate's distributed_type is {kind.value}; it must be one process, or data parallel")
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            f"accelerate's gradient_accumulation_steps is {accelerator.gradient_accumulation_steps}; leave it at 1 "
            "and set training.gradient_accumulation_steps"
        )
    batch, parts = training.batch_size, training.gradient_accumulation_steps
    if batch % (num_processes * parts):
        raise ValueError(
            f"training.batch_size is {batch}; it must be a multiple of {num_processes} processes x {parts} parts"
        )
    share = batch // num_processes
    return range(accelerator.process_index * share, (accelerator.process_index + 1) * share)


class StopRequest:
    """Records a Ctrl-C, SIGTERM or SIGHUP until the step is complete; a later one stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self.first = 0.0

    def __call__(self, signal_number: int, frame: object) -> None:
        if not self.requested:
            self.requested, self.first = True, time.monotonic()
        elif time.monotonic() - self.first > SAME_REQUEST_SECONDS:
            raise KeyboardInterrupt


def any_rank(accelerator: Accelerator, flag: bool) -> bool:
    """Whether the flag is true in any process; every process must call it."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)) > 0)


def assert_equal_across_ranks(accelerator: Accelerator, what: str, value: int) -> None:
    """Checks that a number is the same in all processes, which may run on several machines.

    Args:
        accelerator: Accelerator of the run.
        what: The number, and what to do where it differs.
        value: In this process, below 2**63.

    Raises:
        ValueError: If it differs, in every process.
    """
    if accelerator.num_processes > 1:
        values = accelerator.gather(torch.tensor([value], device=accelerator.device)).tolist()
        if len(set(values)) > 1:
            raise ValueError(f"{what}; the processes have {', '.join(map(str, values))}")


@contextlib.contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Turns Ctrl-C, SIGTERM and a closed terminal into a request inside the context."""
    request = StopRequest()
    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) == signal.SIG_DFL:  # nohup ignores it
        numbers.append(hangup)
    before = {number: signal.signal(number, request) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
