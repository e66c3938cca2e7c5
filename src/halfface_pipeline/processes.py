"""What the processes of one training share: the batch, the wish to stop, and a process group that ends well."""

import contextlib
import gc
import signal
import traceback
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from .config import Config


@contextlib.contextmanager
def ending(accelerator: Accelerator) -> Iterator[None]:
    """Ends trackers and process group after the context, whether it returned or raised.

    The data-parallel wrapper must be gone by then. It holds the last reference to the process group otherwise, and
    its destructor joins gloo's threads without giving up the interpreter lock that they may be waiting for.
    """
    try:
        yield
    except BaseException as error:
        if accelerator.num_processes > 1:
            traceback.clear_frames(error.__traceback__)
        raise
    finally:
        accelerator.free_memory()
        gc.collect()
        accelerator.end_training()


def share_of_batch(config: Config, accelerator: Accelerator) -> int:
    """Images of one step that each process takes.

    Args:
        config: The run's configuration.
        accelerator: Of the run.

    Returns:
        Images a process.

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
    batch, parts = config.training.batch_size, config.training.gradient_accumulation_steps
    if batch % (num_processes * parts):
        raise ValueError(
            f"training.batch_size is {batch}; it must be a multiple of {num_processes} processes x {parts} parts"
        )
    return batch // num_processes


class StopRequest:
    """Remembers a Ctrl-C or SIGTERM until the step is whole; a second one stops at once."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self, signal_number: int, frame: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def agreed(self, accelerator: Accelerator, at: bool) -> bool:
        """Whether any process was asked to stop; several processes agree on it at the same steps (`at`)."""
        if accelerator.num_processes == 1:
            return self.requested
        if not at:
            return False
        return bool(accelerator.reduce(torch.tensor(float(self.requested), device=accelerator.device)) > 0)


@contextlib.contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Turns Ctrl-C and SIGTERM into a request inside the context."""
    request = StopRequest()
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
