"""Training of the denoiser (Ho et al. 2020, algorithm 1), with the known half beside the noisy one if there is one."""

import contextlib
import math
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, parse_flag_from_env, set_seed
from diffusers import DDPMScheduler
from tqdm.auto import tqdm

from ..config.schema import Config
from ..data.images import load_images
from ..diffusion.networks import build_network, num_parameters, sample_shape
from ..diffusion.parameterization import min_snr_weights, target, weighted_mse
from ..diffusion.samplers import make_sampler, training_scheduler
from ..inference.freed_memory import keep_freed_memory
from ..inference.speed import training_precision
from ..remote_code.halves import predict, size_multiple, split
from ..remote_code.image_io import to_signed
from ..run_folder.files import fsync
from ..run_folder.log import LOG_FILE, add_path_to_error, append_log, truncate_log
from .batches import Batch, sample_batch, seed_dropout
from .distributed import (
    LONGEST_WAIT,
    TrainingStopped,
    any_rank,
    assert_equal_across_ranks,
    local_batch_size,
    process_group_guard,
    stop_signals,
)
from .lr_schedule import learning_rate
from .run_lock import check_run_folder, lock_run
from .save_model import has_model, num_steps, save_model
from .state import TrainingState


def train(config: Config) -> Path:
    """Trains, or goes on with, the run that the configuration describes.

    Args:
        config: The run, with `output.dir` set.

    Returns:
        The run folder, which `HalfFaceInpaintPipeline.from_pretrained` loads, or diffusers' `DDPMPipeline` where
        `model.hidden_half` is `all`.

    Raises:
        ValueError: If the configuration does not fit the data, the processes, or what is in the run folder.
        OSError: If something cannot be written; the checkpoints written before are kept.
        TrainingStopped: After Ctrl-C or SIGTERM, with a checkpoint saved.
        FloatingPointError: If more than `training.max_bad_steps` in a row were bad; the last good checkpoint is kept.
        LostProcess: If another process of this training has ended.
    """
    if config.output.dir is None:
        raise ValueError("output.dir is None; it must be the folder to train in")
    tracker = None if config.output.tracker == "none" else config.output.tracker
    run = Path(config.output.dir)
    wait = InitProcessGroupKwargs(timeout=LONGEST_WAIT)
    cuda = torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU")
    device = torch.device("cuda" if cuda else "cpu")
    if config.training.speed == "auto" and device.type == "cpu":
        keep_freed_memory()
    precision = training_precision(config.training.speed, config.training.mixed_precision, device)
    accelerator = Accelerator(mixed_precision=precision, log_with=tracker, project_dir=run, kwargs_handlers=[wait])
    with contextlib.ExitStack() as held, process_group_guard(accelerator):
        # accelerate goes on without a tracker that is not installed and says nothing.
        if tracker and not accelerator.log_with:
            raise ValueError(f"output.tracker is {tracker!r}, which is not installed; 'none' does without")
        _train(config, run, accelerator, held)
    return run


def _train(config: Config, run: Path, accelerator: Accelerator, held: contextlib.ExitStack) -> None:
    """All of `train` that holds the network; the run folder stays locked as long as `held` is open."""
    training, device, writes = config.training, accelerator.device, accelerator.is_main_process
    share = local_batch_size(config, accelerator)
    scheduler = training_scheduler(config.noise, config.objective.prediction_type)
    make_sampler(config.sampling.scheduler, scheduler)
    shape = sample_shape(config.model, config.data.height, config.data.width, config.data.channels)
    set_seed(training.seed)
    network = build_network(
        config.model, config.data.height, config.data.width, config.data.channels, config.noise.num_train_timesteps
    )
    if writes:
        check_run_folder(run, config)
    with accelerator.local_main_process_first():
        train_set = load_images(config.data, "train", progress=writes)
        eval_set = load_images(config.data, "eval", progress=writes)
    names = zlib.crc32("\n".join(train_set.names).encode(errors="surrogateescape"))
    assert_equal_across_ranks(
        accelerator, "all machines must find the same training images; digests of their names differ", names
    )
    if writes:
        held.enter_context(lock_run(run, config, train_set, eval_set))
    accelerator.wait_for_everyone()

    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=config.optimizer.lr,
        betas=(config.optimizer.beta1, config.optimizer.beta2),
        weight_decay=config.optimizer.weight_decay,
        eps=config.optimizer.eps,
        fused=True,
    )
    network, optimizer = accelerator.prepare(network, optimizer)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(device)
    state = TrainingState(accelerator, network, optimizer, training.ema_decay)
    state.resume(run / "checkpoints")
    assert_equal_across_ranks(
        accelerator, "output.dir must be one folder that all machines share; their steps differ", state.step
    )

    first_step, total_steps = state.step, num_steps(config, len(train_set))
    steps_per_epoch = len(train_set) / training.batch_size
    if first_step > total_steps:
        raise ValueError(f"training.steps is {total_steps}; the run in {run} has already taken {first_step}")
    if writes:
        truncate_log(run / LOG_FILE, first_step)
    if accelerator.log_with:
        # Steps after the checkpoint are taken, and told, again.
        accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": {"purge_step": first_step + 1}})
    accelerator.print(
        f"{num_parameters(network) / 1e6:.1f}M parameters, {len(train_set)} images, steps {first_step} to "
        f"{total_steps} of {training.batch_size} images on {accelerator.num_processes} x {device.type}, "
        f"mixed precision {accelerator.mixed_precision}"
    )

    def draw_at(step: int) -> Batch:
        flip, levels = config.data.horizontal_flip, config.noise.num_train_timesteps
        return sample_batch(training.seed, step, len(train_set), training.batch_size, levels, shape, flip, device)

    def loss_of(network: torch.nn.Module, draw: Batch, part: int) -> torch.Tensor:
        """The loss of one accumulated part of this process's share of a step."""
        start, parts = accelerator.process_index * share, training.gradient_accumulation_steps
        rows = slice(start + part * share // parts, start + (part + 1) * share // parts)
        clean = batch_of(train_set.images, draw, rows, device)
        return denoising_loss(network, scheduler, config, clean, draw.timesteps[rows], draw.noise[rows])

    def publish_now() -> None:
        if writes:
            with state.averaged_weights() as sampled:
                save_model(config, run, sampled, scheduler, eval_set, state.step)

    if first_step and first_step % (training.sample_every or total_steps) == 0 and not has_model(run, first_step):
        publish_now()  # stopped between the checkpoint and its sheet
    bar = tqdm(total=total_steps, initial=first_step, unit="step", smoothing=0.05, disable=not writes)
    clock, clocked = time.perf_counter(), first_step
    saves = publishes = False
    with stop_signals() as stop_request, bar:
        for step in range(first_step, total_steps):
            lr = learning_rate(config.lr_schedule, config.optimizer.lr, step, total_steps, steps_per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = lr
            if config.model.dropout:
                seed_dropout(training.seed, step, accelerator.process_index)

            network.train()
            buffers = state.buffers()
            draw, parts = draw_at(step), training.gradient_accumulation_steps
            step_loss = torch.zeros((), device=device)
            for part in range(parts):
                with accelerator.no_sync(network) if part < parts - 1 else contextlib.nullcontext():
                    loss = loss_of(network, draw, part)
                    accelerator.backward(loss / parts)
                step_loss += loss.detach() / parts
            grad_norm = accelerator.clip_grad_norm_(network.parameters(), config.optimizer.max_grad_norm or math.inf)
            good = float(step_loss) <= training.max_loss and math.isfinite(grad_norm)
            bad, stopping = any_rank(accelerator, not good, stop_request.requested)
            if not bad:
                optimizer.step()
                state.step_taken(step_loss)
            else:
                state.step_skipped(buffers)
                if accelerator.scaler:
                    accelerator.scaler.update()
                bar.write(
                    f"step {state.step} skipped: loss {float(step_loss):.3g}, gradient norm {float(grad_norm):.3g}"
                )
            optimizer.zero_grad()
            bar.update()
            if state.bad_in_a_row > training.max_bad_steps:
                raise FloatingPointError(_advice(config, state, accelerator))

            ended = state.step == total_steps
            if state.steps_in_sum and (state.step % training.log_every == 0 or ended):
                seconds, images = time.perf_counter() - clock, (state.step - clocked) * training.batch_size
                clock, clocked = time.perf_counter(), state.step
                line = {
                    "step": state.step,
                    "epoch": state.step / steps_per_epoch,
                    "images_seen": state.step * training.batch_size,
                    "loss": state.mean_loss(),
                    "lr": lr,
                    "grad_norm": float(grad_norm) if math.isfinite(grad_norm) else None,
                    "skipped_steps": state.skipped_steps,
                    "images_per_second": images / seconds,
                }
                if writes:
                    append_log(run / LOG_FILE, line)
                with add_path_to_error(run / "tensorboard"):
                    accelerator.log({name: value for name, value in line.items() if name != "step"}, step=state.step)
                bar.set_postfix_str(f"loss {line['loss']:.4f}, {line['images_per_second']:.0f} images/s")

            saves = saves or state.step % training.checkpoint_every == 0 or ended
            publishes = publishes or state.step % (training.sample_every or total_steps) == 0 or ended
            sound = False
            if saves or publishes or stopping:
                sound = _sound(state, lambda network: loss_of(network, draw_at(state.step), 0), training.max_loss)
                if ended and not sound:
                    raise FloatingPointError(_advice(config, state, accelerator))
            if sound and (saves or stopping):
                if writes and (run / LOG_FILE).exists():
                    fsync(run / LOG_FILE)
                state.save(run / "checkpoints", training.keep_last, training.keep_every)
            if sound and publishes and (ended or not stopping):  # who stops it may not wait for the sheet
                publish_now()
            if sound:
                saves = publishes = False
            if stopping and not ended:
                where = "there" if sound else f"step {state.saved_step or 0}, the last with sound weights"
                raise TrainingStopped(
                    f"stopped at step {state.step} of {total_steps}; the same command goes on from {where}"
                )
    if not has_model(run, state.step):
        publish_now()


def batch_of(images: np.ndarray, draw: Batch, rows: slice, device: torch.device) -> torch.Tensor:
    """Some of the images that a step has drawn, mirrored as drawn.

    Args:
        images: All images, uint8 (N, H, W, C).
        draw: Of the step.
        rows: Which places of the global batch.
        device: Where the batch goes.

    Returns:
        (n, C, H, W) in [-1, 1].
    """
    pixels = torch.from_numpy(images[draw.indices[rows]]).to(device, non_blocking=True)
    clean = to_signed(pixels.permute(0, 3, 1, 2))
    return torch.where(draw.flips[rows, None, None, None], clean.flip(-1), clean)


@torch.no_grad()
def _sound(state: TrainingState, loss_of: Callable[[torch.nn.Module], torch.Tensor], max_loss: float) -> bool:
    """Whether the weights as they are now give a believable loss on what the coming step will draw.

    The last update may have broken them without any loss having told so yet; and what is saved replaces what was good.
    """
    before = state.buffers()
    state.bare_network.train()
    loss = float(loss_of(state.bare_network))
    state.put_back(before)
    return not any_rank(state.accelerator, not loss <= max_loss)[0]


def _advice(config: Config, state: TrainingState, accelerator: Accelerator) -> str:
    """Why a training ends that goes wrong, and what to try."""
    training = config.training
    kept = (
        "nothing has been saved" if state.saved_step is None else f"the checkpoint of step {state.saved_step} is kept"
    )
    other = ", --training.mixed_precision bf16" if accelerator.mixed_precision == "fp16" else ""
    return (
        f"step {state.step}: no loss is finite and below training.max_loss ({training.max_loss:g}) any more; "
        f"{state.bad_in_a_row} steps in a row were skipped, {kept}. Try --optimizer.lr {config.optimizer.lr / 3:.1e}"
        f"{other} or a smaller --optimizer.max_grad_norm, with --output.accept_changes true to go on from what is kept"
    )


def denoising_loss(
    network: torch.nn.Module,
    scheduler: DDPMScheduler,
    config: Config,
    clean: torch.Tensor,
    timesteps: torch.Tensor,
    noise: torch.Tensor,
) -> torch.Tensor:
    """The loss of one batch: E ||target - network(sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, known half, t)||^2.

    With `model.hidden_half` all, x_0 is the whole image and nothing is known.

    Args:
        network: The denoiser.
        scheduler: The forward process; its `prediction_type` chooses the target.
        config: Halves, layout and weighting.
        clean: Whole images, (N, C, H, W) in [-1, 1].
        timesteps: t, (N,).
        noise: eps of the hidden halves in the turned frame, (N, C, h, w), or of the whole images.

    Returns:
        A scalar: L_simple (Ho et al. 2020, equation 14), or its Min-SNR weighting.
    """
    whole = config.model.hidden_half == "all"
    known, hidden = (None, clean) if whole else split(clean, config.model.hidden_half)
    noisy = scheduler.add_noise(hidden, noise, timesteps)
    layout, multiple = config.model.known_layout, size_multiple(network)
    prediction = predict(network, noisy, known, timesteps, layout, multiple)
    weights = min_snr_weights(scheduler, timesteps, config.objective.min_snr_gamma)
    return weighted_mse(prediction, target(scheduler, hidden, noise, timesteps), weights)
