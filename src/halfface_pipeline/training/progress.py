"""The progress of a training: log.jsonl, the tracker, and a bar on a terminal or else a line per log entry."""

import math
import sys
import time
from pathlib import Path
from types import TracebackType

from accelerate import Accelerator
from tqdm.auto import tqdm

from ..run_folder.files import fsync
from ..run_folder.log import LOG_FILE, add_path_to_error, append_log, truncate_log
from .state import TrainingState
from .step import StepResult


class Progress:
    """Reports the steps of a training; entries beyond the step that it resumes from are removed.

    Args:
        accelerator: Accelerator of the run; only its main process writes.
        run: The run folder.
        state: State after resuming.
        total_steps: Optimizer steps of the whole training.
        steps_per_epoch: Optimizer steps of one pass over the data.
        batch_size: Images of one step over all processes.
        log_every: Optimizer steps between entries.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        run: Path,
        state: TrainingState,
        total_steps: int,
        steps_per_epoch: float,
        batch_size: int,
        log_every: int,
    ) -> None:
        self.accelerator, self.run, self.state, self.total_steps = accelerator, run, state, total_steps
        self.steps_per_epoch, self.batch_size, self.log_every = steps_per_epoch, batch_size, log_every
        self.clock, self.clocked = time.perf_counter(), state.step
        self.writes = accelerator.is_main_process
        if self.writes:
            truncate_log(run / LOG_FILE, state.step)
        if accelerator.log_with:
            tracker = str(accelerator.log_with[0])
            # Steps after the checkpoint are taken, and logged, again.
            arguments = {"tensorboard": {"purge_step": state.step + 1}} if tracker == "tensorboard" else {}
            accelerator.init_trackers("tensorboard" if arguments else run.resolve().name, init_kwargs=arguments)
        # Without a terminal, a bar would fill a file with one line per step.
        hidden = not (self.writes and sys.stderr.isatty())
        self.bar = tqdm(total=total_steps, initial=state.step, unit="step", smoothing=0.05, disable=hidden)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def report(self, result: StepResult) -> None:
        """Counts one step, and writes an entry at every `log_every` and at the end."""
        state = self.state
        if result.skipped and self.writes:
            loss, grad_norm = f"{result.loss:.3g}", f"{result.grad_norm:.3g}"
            self.bar.write(f"step {state.step} skipped: loss {loss}, gradient norm {grad_norm}", file=sys.stderr)
        self.bar.update()
        if state.steps_in_sum and (state.step % self.log_every == 0 or state.step == self.total_steps):
            self._log(result)

    def _log(self, result: StepResult) -> None:
        state, now = self.state, time.perf_counter()
        images_per_second = (state.step - self.clocked) * self.batch_size / (now - self.clock)
        self.clock, self.clocked = now, state.step
        entry = {
            "epoch": state.step / self.steps_per_epoch,
            "images_seen": state.step * self.batch_size,
            "loss": state.mean_loss(),
            "lr": result.lr,
            "grad_norm": result.grad_norm if math.isfinite(result.grad_norm) else None,
            "skipped_steps": state.skipped_steps,
            "images_per_second": images_per_second,
        }
        if self.writes:
            append_log(self.run / LOG_FILE, {"step": state.step, **entry})
        with add_path_to_error(self.run / "tensorboard"):
            self.accelerator.log(entry, step=state.step)
        summary = f"loss {entry['loss']:.4f}, {images_per_second:.0f} images/s"
        self.bar.set_postfix_str(summary)
        if self.bar.disable and self.writes:
            print(f"step {state.step} of {self.total_steps}: {summary}", file=sys.stderr, flush=True)

    def flush(self) -> None:
        """Brings log.jsonl to the disk, before the checkpoint that belongs to it."""
        if self.writes and (self.run / LOG_FILE).exists():
            fsync(self.run / LOG_FILE)
