"""Training of the denoiser (Ho et al. 2020, algorithm 1), in one process or several."""

import contextlib
import copy
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import SchedulerMixin

from ..config.schema import Config
from ..data.images import ImageSet, load_images
from ..diffusion.distillation import saved_scheduler
from ..diffusion.networks import build_network, num_parameters, sample_shape
from ..diffusion.samplers import check_sampling, distilled_steps, training_scheduler
from ..inference.load import load_pipeline
from ..remote_code.noise_levels import noise_schedule
from .batches import Batches, num_steps, seed_dropout
from .distributed import (
    TrainingStopped,
    any_rank,
    assert_equal_across_ranks,
    local_rows,
    make_accelerator,
    process_group_guard,
    stop_signals,
)
from .init_weights import init_weights
from .lr_schedule import learning_rate
from .objective import build_objective
from .optimizer import build_optimizer
from .progress import Progress
from .run_lock import check_run_folder, lock_run
from .save_model import has_model, save_model
from .state import TrainingState
from .step import has_usable_loss, train_step


def train(config: Config) -> Path:
    """Trains, or resumes, the run that the configuration describes.

    Args:
        config: The run, with `output.dir` set.

    Returns:
        The run folder, which `HalfFaceInpaintPipeline.from_pretrained` loads, or `FacePriorPipeline` where
        `model.hidden_half` is `all` or `any`.

    Raises:
        ValueError: If the configuration does not fit the data, the processes, or what is in the run folder.
        OSError: If something cannot be written; the checkpoints written before are kept.
        TrainingStopped: After Ctrl-C or SIGTERM, with a checkpoint saved.
        FloatingPointError: After more than `training.max_bad_steps` bad steps in a row; the last checkpoint is kept.
        PeerProcessDied: If another process of this training has ended.
    """
    if config.output.dir is None:
        raise ValueError("output.dir is None; it must be the folder to train in")
    run = Path(config.output.dir)
    accelerator = make_accelerator(config.training, config.output.tracker, run)
    with contextlib.ExitStack() as lock, process_group_guard(accelerator):
        _train(config, run, accelerator, lock)
    return run


def _train(config: Config, run: Path, accelerator: Accelerator, lock: contextlib.ExitStack) -> None:
    """The part of `train` that holds the network, which must be gone before the process group ends."""
    training, data, device = config.training, config.data, accelerator.device
    rows = local_rows(training, accelerator)
    scheduler = training_scheduler(config.noise, config.objective.prediction_type)
    sampler = saved_scheduler(scheduler, config.distillation)
    check_sampling(config.sampling.scheduler, config.sampling.num_inference_steps, sampler)
    torch.manual_seed(training.seed)
    network = build_network(config.model, data.height, data.width, data.channels, config.noise.num_train_timesteps)
    has_begun = any((run / "checkpoints").glob("step-*")) and not config.output.overwrite
    if config.model.init_from is not None and not has_begun:
        copied = init_weights(network, config.model.init_from, config.objective.prediction_type)
        accelerator.print(f"starting from {copied}")
    teacher = _teacher(config, network, scheduler, accelerator)
    if teacher is not None and not has_begun:
        network.load_state_dict(teacher.state_dict())
    train_set, eval_set = _load_data(config, run, accelerator, lock)
    total_steps, steps_per_epoch = num_steps(config.training, len(train_set)), len(train_set) / training.batch_size

    network, optimizer = accelerator.prepare(network, build_optimizer(network, config.optimizer))
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(device)
    state = TrainingState(accelerator, network, optimizer, training.ema_decay)
    state.resume(run / "checkpoints")
    _check_resumed(run, state, total_steps)

    objective = build_objective(scheduler, config.model, config.objective, config.distillation, teacher)
    channels, *size = sample_shape(config.model, data.height, data.width, data.channels)
    batches = Batches(
        images=_training_pixels(config, train_set, accelerator),
        seed=training.seed,
        batch_size=training.batch_size,
        num_timesteps=config.noise.num_train_timesteps,
        shape=(channels * objective.num_noises, *size),
        flip=data.horizontal_flip,
        augment=training.augment,
        device=device,
        rows=rows,
        num_parts=training.gradient_accumulation_steps,
        masked=config.model.hidden_half == "any",
    )

    loss_of = objective.loss_of
    sample_every = training.sample_every or total_steps
    sampled_step = state.step
    if state.step and state.step % sample_every == 0 and not has_model(run, state.step):
        _save_model(config, run, state, sampler, eval_set)  # stopped between the checkpoint and its sheet
    accelerator.print(
        f"{num_parameters(network) / 1e6:.1f}M parameters, {len(train_set)} images, steps {state.step} to "
        f"{total_steps} of {training.batch_size} images on {accelerator.num_processes} x {device.type}, "
        f"mixed precision {accelerator.mixed_precision}"
    )
    progress = Progress(accelerator, run, state, total_steps, steps_per_epoch, training.batch_size, training.log_every)
    with stop_signals() as stop, progress:
        for step in range(state.step, total_steps):
            lr = learning_rate(config.lr_schedule, config.optimizer.lr, step, total_steps, steps_per_epoch)
            if config.model.dropout:
                seed_dropout(training.seed, step, accelerator.process_index)
            result = train_step(state, batches, loss_of, lr, config.optimizer.max_grad_norm, training.max_loss)
            stopped, ended = any_rank(accelerator, stop.requested), state.step == total_steps
            if state.bad_in_a_row > training.max_bad_steps:
                raise FloatingPointError(_advice(config, state))
            progress.report(result)

            save = stopped or ended or _due(state.step, training.checkpoint_every, state.saved_step or 0)
            sample = ended or (not stopped and _due(state.step, sample_every, sampled_step))
            if (save or sample) and has_usable_loss(state, batches, loss_of, training.max_loss):
                if save:
                    progress.flush()
                    state.save(run / "checkpoints", training.keep_last, training.keep_every)
                if sample:
                    _save_model(config, run, state, sampler, eval_set)
                    sampled_step = state.step
            elif ended:
                raise FloatingPointError(_advice(config, state))
            if stopped and not ended:
                raise TrainingStopped(
                    f"stopped at step {state.step} of {total_steps}; the same command resumes from step "
                    f"{state.saved_step or 0}, the last one saved"
                )
    if not has_model(run, state.step):
        _save_model(config, run, state, sampler, eval_set)


def _teacher(
    config: Config, network: torch.nn.Module, scheduler: SchedulerMixin, accelerator: Accelerator
) -> torch.nn.Module | None:
    """The network of `distillation.teacher`, not to be trained."""
    if config.distillation.teacher is None:
        return None
    teacher = copy.deepcopy(network).eval().requires_grad_(False)
    prediction_type, setting = config.objective.prediction_type, "distillation.teacher"
    copied = init_weights(teacher, config.distillation.teacher, prediction_type, setting)
    accelerator.print(f"distilling {copied}")
    saved = load_pipeline(config.distillation.teacher).scheduler
    if distilled_steps(saved) is not None:
        raise ValueError(f"{setting} is {config.distillation.teacher}; it must not be distilled itself")
    theirs, own = noise_schedule(saved), noise_schedule(scheduler)
    if theirs != own:
        raise ValueError(f"distillation.teacher was trained under {theirs}; noise and objective must be those: {own}")
    prepared: torch.nn.Module = accelerator.prepare_model(teacher, evaluation_mode=True)
    return prepared


def _load_data(
    config: Config, run: Path, accelerator: Accelerator, lock: contextlib.ExitStack
) -> tuple[ImageSet, ImageSet]:
    """Training and held-out images, the same in all processes; the main process locks the run folder."""
    main = accelerator.is_main_process
    if main:
        check_run_folder(run, config)
    with accelerator.local_main_process_first():
        train_set = load_images(config.data, "train", progress=main)
        eval_set = load_images(config.data, "eval", progress=main)
    names = zlib.crc32("\n".join(train_set.names).encode(errors="surrogateescape"))
    assert_equal_across_ranks(
        accelerator, "all machines must find the same training images; digests of their names differ", names
    )
    warmup, steps = config.lr_schedule.warmup_steps, num_steps(config.training, len(train_set))
    if warmup > steps and main:
        reached = f"the learning rate rises to {steps / warmup:.0%} of optimizer.lr only"
        warnings.warn(
            f"lr_schedule.warmup_steps is {warmup}, more than the run's {steps} steps: {reached}", stacklevel=2
        )
    if main:
        lock.enter_context(lock_run(run, config, train_set, eval_set))
    accelerator.wait_for_everyone()
    return train_set, eval_set


def _training_pixels(config: Config, train_set: ImageSet, accelerator: Accelerator) -> np.ndarray:
    """The training images, at twice their size where they are augmented, so that no change blurs them."""
    if not config.training.augment:
        return train_set.images
    data = replace(config.data, height=2 * config.data.height, width=2 * config.data.width)
    with accelerator.local_main_process_first():
        return load_images(data, "train", progress=accelerator.is_main_process).images


def _check_resumed(run: Path, state: TrainingState, total_steps: int) -> None:
    """Refuses processes that resume from different steps, and a run that is longer already."""
    assert_equal_across_ranks(
        state.accelerator, "output.dir must be one folder that all machines share; their steps differ", state.step
    )
    if state.step > total_steps:
        raise ValueError(f"training.steps is {total_steps}; the run in {run} has already taken {state.step}")


def _save_model(config: Config, run: Path, state: TrainingState, sampler: SchedulerMixin, eval_set: ImageSet) -> None:
    """Saves the averaged weights as the model of the run folder, from the main process."""
    if state.accelerator.is_main_process:
        with state.averaged_weights() as network:
            save_model(config, run, network, sampler, eval_set, state.step)


def _due(step: int, every: int, last: int) -> bool:
    """Whether a multiple of `every` lies after step `last` and not after `step`."""
    return step // every > last // every


def _advice(config: Config, state: TrainingState) -> str:
    """Why a training ends whose losses are not usable, and what to try."""
    training = config.training
    kept = "nothing has been saved"
    if state.saved_step is not None:
        kept = f"the checkpoint of step {state.saved_step} is kept"
    other = ", --training.mixed_precision bf16" if state.accelerator.mixed_precision == "fp16" else ""
    return (
        f"step {state.step}: no loss is finite and below training.max_loss ({training.max_loss:g}) any more; "
        f"{state.bad_in_a_row} steps in a row were skipped, {kept}. Try --optimizer.lr {config.optimizer.lr / 3:.1e}"
        f"{other} or a smaller --optimizer.max_grad_norm, with --output.accept_changes true to resume from it"
    )
