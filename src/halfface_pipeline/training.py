"""Training of the denoiser (Ho et al. 2020, algorithm 1), with the known half beside the noisy one if there is one."""

import contextlib
import json
import math
import time
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed
from diffusers import DDPMScheduler
from tqdm.auto import tqdm

from .config import Config
from .data.dataset import load_images
from .draws import draw_step, seed_dropout
from .halves import predict_hidden, size_multiple, split
from .lr_schedule import learning_rate
from .networks import build_network, drawn_shape, num_parameters
from .objectives import min_snr_weights, target, weighted_mse
from .pictures import encode
from .processes import ending, share_of_batch, stop_signals
from .runs import (
    LOG_FILE,
    check_run_folder,
    claim_run_folder,
    forget_log_after,
    list_skipped,
    num_steps,
    publish,
    published,
)
from .schedules import sampler, training_scheduler
from .speed import training_precision
from .training_state import TrainingState


class TrainingStopped(Exception):  # noqa: N818 -- it ends a run as asked, it is no error
    """Training was asked to stop and has saved a checkpoint; the message says how to go on."""


def train(config: Config) -> Path:
    """Trains, or goes on with, the run that the configuration describes.

    Args:
        config: The run, with `output.dir` set.

    Returns:
        The run folder, which `HalfFaceInpaintPipeline.from_pretrained` loads, or diffusers' `DDPMPipeline` where
        `model.hidden_half` is `all`.

    Raises:
        ValueError: If the configuration does not fit the data, the processes, or what is in the run folder.
        TrainingStopped: After Ctrl-C or SIGTERM, with a checkpoint saved.
        FloatingPointError: If the loss is no longer a number; the last checkpoint is kept.
    """
    if config.output.dir is None:
        raise ValueError("output.dir is None; it must be the folder to train in")
    tracker = None if config.output.tracker == "none" else config.output.tracker
    run = Path(config.output.dir)
    training = config.training
    precision = training_precision(training.speed, training.mixed_precision, PartialState().device)
    accelerator = Accelerator(mixed_precision=precision, log_with=tracker, project_dir=run)
    with ending(accelerator):
        _train(config, run, accelerator)
    return run


def _train(config: Config, run: Path, accelerator: Accelerator) -> None:
    """All of `train` that holds the network."""
    training, device, writes = config.training, accelerator.device, accelerator.is_main_process
    share = share_of_batch(config, accelerator)
    scheduler = training_scheduler(config.noise, config.objective.prediction_type)
    sampler(config.sampling.scheduler, scheduler)
    shape = drawn_shape(config.model, config.data.height, config.data.width, config.data.channels)
    set_seed(training.seed)
    network = build_network(
        config.model, config.data.height, config.data.width, config.data.channels, config.noise.num_train_timesteps
    )
    if writes:
        check_run_folder(run, config)
    with accelerator.local_main_process_first():
        train_set = load_images(config.data, "train", progress=writes)
        eval_set = load_images(config.data, "eval", progress=writes)
    if writes:
        claim_run_folder(run, config)
        list_skipped(run, train_set, eval_set)
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

    first_step, total_steps = state.step, num_steps(config, len(train_set))
    steps_per_epoch = len(train_set) / training.batch_size
    if first_step > total_steps:
        raise ValueError(f"training.steps is {total_steps}; the run in {run} has already taken {first_step}")
    if writes:
        forget_log_after(run / LOG_FILE, first_step)
    if accelerator.log_with:
        accelerator.init_trackers("tensorboard")
    accelerator.print(
        f"{num_parameters(network) / 1e6:.1f}M parameters, {len(train_set)} images, steps {first_step} to "
        f"{total_steps} of {training.batch_size} images on {accelerator.num_processes} x {device.type}, "
        f"mixed precision {accelerator.mixed_precision}"
    )

    images = train_set.images
    bar = tqdm(total=total_steps, initial=first_step, unit="step", smoothing=0.05, disable=not writes)
    clock = time.perf_counter()
    with stop_signals() as stop_request, bar:
        for step in range(first_step, total_steps):
            lr = learning_rate(config.lr_schedule, config.optimizer.lr, step, total_steps, steps_per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = lr
            flip, levels = config.data.horizontal_flip, config.noise.num_train_timesteps
            draw = draw_step(training.seed, step, len(images), training.batch_size, levels, shape, flip, device)
            if config.model.dropout:
                seed_dropout(training.seed, step, accelerator.process_index)

            network.train()
            start, parts = accelerator.process_index * share, training.gradient_accumulation_steps
            for part in range(parts):
                rows = slice(start + part * share // parts, start + (part + 1) * share // parts)
                pixels = torch.from_numpy(images[draw.indices[rows]]).to(device, non_blocking=True)
                clean = encode(pixels.permute(0, 3, 1, 2), "uint8", "signed")
                clean = torch.where(draw.flips[rows, None, None, None], clean.flip(-1), clean)
                with accelerator.no_sync(network) if part < parts - 1 else contextlib.nullcontext():
                    loss = denoising_loss(network, scheduler, config, clean, draw.timesteps[rows], draw.noise[rows])
                    accelerator.backward(loss / parts)
                state.loss_sum += loss.detach() / parts
            grad_norm = accelerator.clip_grad_norm_(network.parameters(), config.optimizer.max_grad_norm or math.inf)
            optimizer.step()
            optimizer.zero_grad()
            state.step_taken()
            bar.update()

            ended = state.step == total_steps
            logs = state.step % training.log_every == 0 or ended
            stopping = stop_request.agreed(accelerator, at=state.step % training.log_every == 0)
            saves = state.step % training.checkpoint_every == 0 or ended or stopping
            publishes = ended or state.step % (training.sample_every or total_steps) == 0
            if logs or saves or publishes:
                state.require_finite_loss()
            if logs:
                images_logged = state.steps_in_sum * training.batch_size
                seconds, clock = time.perf_counter() - clock, time.perf_counter()
                line = {
                    "step": state.step,
                    "epoch": state.step / steps_per_epoch,
                    "images_seen": state.step * training.batch_size,
                    "loss": state.mean_loss(),
                    "lr": lr,
                    "grad_norm": float(grad_norm) if math.isfinite(grad_norm) else None,
                    "images_per_second": images_logged / seconds,
                }
                if writes:
                    with (run / LOG_FILE).open("a") as log:
                        log.write(json.dumps(line) + "\n")
                accelerator.log({name: value for name, value in line.items() if name != "step"}, step=state.step)
                bar.set_postfix_str(f"loss {line['loss']:.4f}, {line['images_per_second']:.0f} images/s")

            if writes and publishes:
                with state.averaged_weights() as sampled:
                    publish(config, run, sampled, scheduler, eval_set, state.step)
            if saves:
                state.save(run / "checkpoints", training.keep_last)
            if stopping and not ended:
                raise TrainingStopped(
                    f"stopped at step {state.step} of {total_steps}; the same command goes on from there"
                )
    if writes and not published(run, state.step):
        with state.averaged_weights() as sampled:
            publish(config, run, sampled, scheduler, eval_set, state.step)


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
    prediction = predict_hidden(network, noisy, known, timesteps, layout, multiple)
    weights = min_snr_weights(scheduler, timesteps, config.objective.min_snr_gamma)
    return weighted_mse(prediction, target(scheduler, hidden, noise, timesteps), weights)
