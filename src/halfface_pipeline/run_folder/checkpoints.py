"""Atomic checkpoints: written to a temporary folder, flushed, renamed; complete or absent."""

import errno
import hashlib
import json
import os
import pickle
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .files import PARTIAL, fsync, remove_partial_files

MANIFEST = "manifest.json"
CORRUPTION_ERRNOS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO)
"""Only these errors mean corruption. Others may be transient, and skipped checkpoints are deleted later."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything a training needs to resume.

    Learning rate, data order, flips, timesteps and noise are functions of (seed, step), so it holds no schedule and no
    generator state.

    Args:
        step: Optimizer steps done.
        network: Weights being trained.
        average: Their exponential moving average; empty without one.
        optimizer: State dictionary of the optimizer, and of the gradient scaler under `scaler`.
        progress: Counters and sums that are not weights, JSON-able.
    """

    step: int
    network: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    progress: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep_last: int, keep_every: int | None = None) -> Path:
    """Writes `folder/step-N` atomically, then removes the checkpoints that are not to be kept.

    Checkpoints of later steps were skipped as damaged on resume; they are removed too.

    Args:
        folder: The run's checkpoints/.
        checkpoint: What to write.
        keep_last: How many of the newest are kept.
        keep_every: Checkpoints at multiples of this many steps are kept as well; None keeps no others.

    Returns:
        The folder written.

    Raises:
        OSError: If it cannot be written; what was there before is left as it was.
    """
    target = folder / f"step-{checkpoint.step}"
    partial = folder / f"{PARTIAL}{target.name}"
    remove_partial_files(folder)
    try:
        _write(partial, checkpoint)
    except (OSError, SafetensorError, RuntimeError) as error:
        # safetensors and torch report a full disk by their own errors; torch's replaces the system's.
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(
            f"the checkpoint of step {checkpoint.step} cannot be written to {folder}: {reason}; those before it "
            "are kept. Once there is room, the same command resumes from the newest"
        ) from error
    _discard(target)
    os.replace(partial, target)
    fsync(folder)
    steps = [_step(path) for path in _checkpoint_folders(folder)]
    earlier = [step for step in steps if step <= checkpoint.step]
    kept = {*earlier[-keep_last:], *(step for step in earlier if keep_every and step % keep_every == 0)}
    for step in set(steps) - kept:
        _discard(folder / f"step-{step}")
    return target


def load_newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest undamaged checkpoint; damaged ones are skipped with a warning.

    Args:
        folder: The run's checkpoints/.

    Returns:
        The checkpoint on the CPU, or None if there is none.

    Raises:
        ValueError: If there are checkpoints and all are damaged.
        OSError: If the newest cannot be read for another reason.
    """
    candidates = _checkpoint_folders(folder)
    for candidate in reversed(candidates):
        try:
            return load_checkpoint(candidate)
        except ValueError as error:
            warnings.warn(f"{error}; trying the checkpoint before it", stacklevel=2)
    if candidates:
        raise ValueError(f"every checkpoint in {folder} is damaged; delete that folder to start again")
    return None


def load_checkpoint(checkpoint: Path) -> Checkpoint:
    """One checkpoint, undamaged.

    Args:
        checkpoint: Its folder, step-N.

    Returns:
        The checkpoint on the CPU.

    Raises:
        ValueError: If it is damaged.
        OSError: If it cannot be read for another reason.
    """
    fault = find_corruption(checkpoint)
    if fault is not None:
        raise ValueError(f"{checkpoint} is damaged ({fault})")
    try:
        return _load(checkpoint)
    except (OSError, KeyError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        # Intact, but not one of ours; `weights_only` refuses a pickle that would run code.
        raise ValueError(f"{checkpoint} is damaged ({type(error).__name__}: {str(error).splitlines()[0]})") from error


def find_corruption(checkpoint: Path) -> str | None:
    """What is damaged in a checkpoint folder; None if nothing is. OSError where it cannot be read."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text())
        for name, written in manifest.items():
            file = checkpoint / name
            if file.stat().st_size != written["bytes"] or _sha256(file) != written["sha256"]:
                return f"{name} differs from what was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno not in CORRUPTION_ERRNOS:
            raise
        return f"{type(error).__name__}: {error}"
    return None


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes and flushes the files and, last, the manifest of their sizes and digests."""
    folder.mkdir(parents=True)
    save_file(checkpoint.network, folder / "network.safetensors")
    save_file(checkpoint.average, folder / "average.safetensors")
    with (folder / "optimizer.pt").open("wb") as stream:  # torch's own writer does not report a full disk
        torch.save(checkpoint.optimizer, stream)
    (folder / "progress.json").write_text(json.dumps({"step": checkpoint.step, **checkpoint.progress}))
    files = sorted(folder.iterdir())
    manifest = {file.name: {"bytes": file.stat().st_size, "sha256": _sha256(file)} for file in files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
    for file in [*files, folder / MANIFEST]:
        file.chmod(0o644)  # safetensors makes files readable by their owner only
        fsync(file)
    fsync(folder)


def _discard(checkpoint: Path) -> None:
    """Deletes a checkpoint, if it exists, atomically: renamed first."""
    if checkpoint.exists():
        doomed = checkpoint.with_name(f"{PARTIAL}old-{checkpoint.name}")
        os.replace(checkpoint, doomed)
        shutil.rmtree(doomed, ignore_errors=True)  # a network file system keeps files that are still open


def _load(folder: Path) -> Checkpoint:
    progress = json.loads((folder / "progress.json").read_text())
    return Checkpoint(
        step=progress.pop("step"),
        network=load_file(folder / "network.safetensors"),
        average=load_file(folder / "average.safetensors"),
        optimizer=torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True),
        progress=progress,
    )


def _checkpoint_folders(folder: Path) -> list[Path]:
    """Renamed checkpoint folders, oldest first."""
    found = [path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdigit()]
    return sorted(found, key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
