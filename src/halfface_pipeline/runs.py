"""What stands in a run folder: the log, and the model, pictures and card of a step."""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import torch
from diffusers import DDPMPipeline, DDPMScheduler, DiffusionPipeline
from safetensors import SafetensorError

from .card import write_card
from .checkpoints import load_checkpoint
from .config import Config
from .config_files import from_yaml, to_yaml
from .data.dataset import ImageSet
from .data.sources import open_source
from .files import PARTIAL, flush, replacing, write_whole
from .networks import build_network, num_parameters, training_cost
from .pictures import known_halves
from .pipeline import HalfFaceInpaintPipeline
from .plots import grid, save_loss_plot, sheet
from .provenance import AI_GENERATED, WHOLE_GENERATED, save_png
from .schedules import sampler, training_scheduler
from .shipping import ship_components

CONFIG_FILE, LOG_FILE = "config.yaml", "log.jsonl"
KEPT = "the checkpoints are kept. Once there is room, the same command goes on from the newest"
BYTES_PER_PARAMETER = 20
"""Weight, gradient, two moments of AdamW and the average, each in float32."""


def num_steps(config: Config, num_images: int) -> int:
    """Optimizer steps of the whole training."""
    if config.training.steps is not None:
        return config.training.steps
    return max(1, math.ceil(config.training.epochs * num_images / config.training.batch_size))


def describe(config: Config) -> str:
    """What a run would be: the resolved configuration, parameters, steps and memory."""
    parameters, operations, activations = training_cost(
        config.model, config.data.height, config.data.width, config.data.channels
    )
    part = config.training.batch_size // config.training.gradient_accumulation_steps
    memory = (parameters * BYTES_PER_PARAMETER + activations * part) / 2**30
    try:
        images = len(open_source(config.data, "train").names)
        length = f"{images} images, {num_steps(config, images)} steps of {config.training.batch_size}"
    except ValueError as error:
        length = f"not known: {error}"
    return (
        f"{to_yaml(config)}\n"
        f"parameters: {parameters:,} ({parameters / 1e6:.1f}M)\n"
        f"forward pass: {operations / 1e9:.1f} GFLOP an image\n"
        f"training: {length}\n"
        f"memory: about {memory:.1f} GiB in float32 on one process ({part} images at once)"
    )


def read_log(file: Path) -> list[dict[str, float]]:
    """Lines of log.jsonl; a last line cut short by a crash is left out."""
    lines = []
    for line in file.read_text(errors="replace").splitlines() if file.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


@contextlib.contextmanager
def naming(what: Path) -> Iterator[None]:
    """Has an OSError inside the context say what cannot be written, and what is kept."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{what} cannot be written: {error}; {KEPT}") from error


def append_log(file: Path, line: dict[str, float | None]) -> None:
    """Adds a line to log.jsonl; OSError, saying what is kept, where it cannot be written."""
    with naming(file), file.open("a") as log:
        log.write(json.dumps(line) + "\n")


def forget_log_after(file: Path, step: int) -> None:
    """Removes what was logged beyond the checkpoint that training goes on from."""
    kept = [line for line in read_log(file) if line["step"] <= step]
    write_whole(file, "".join(json.dumps(line) + "\n" for line in kept))


def list_skipped(run: Path, *parts: ImageSet) -> None:
    """Lists the pictures left out under `data.on_bad_image` skip, with the reason, in skipped_images.txt."""
    lines = [f"{name}: {reason}\n" for part in parts for name, reason in part.skipped]
    if lines:
        write_whole(run / "skipped_images.txt", "".join(lines))


def published(run: Path, step: int) -> bool:
    """Whether the model in the run folder is that of this step."""
    return (run / _sheet_of(step)).exists() and (run / "model_index.json").exists()


def _sheet_of(step: int) -> str:
    return f"samples/step-{step:07d}.png"


def publish(
    config: Config, run: Path, network: torch.nn.Module, scheduler: DDPMScheduler, eval_set: ImageSet, step: int
) -> None:
    """Puts the model as it is now into the run folder, with a sheet of samples, the loss and the card.

    Args:
        config: The run's configuration.
        run: The run folder.
        network: Holding the weights to sample with.
        scheduler: The training scheduler, saved with the model.
        eval_set: Held-out faces for the sheet; one of whole images needs none.
        step: Optimizer steps done.
    """
    height, width, hidden = config.data.height, config.data.width, config.model.hidden_half
    saved = DDPMScheduler.from_config(scheduler.config)
    network.eval()
    pipe: DiffusionPipeline
    if hidden == "all":
        pipe = DDPMPipeline(network, saved)
    else:
        pipe = HalfFaceInpaintPipeline(network, saved, height, width, hidden, config.model.known_layout)
    _replace_model(pipe, run)

    sampling = config.sampling
    pipe.scheduler = sampler(sampling.scheduler, saved)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(sampling.seed)
    if hidden == "all":
        num_images = sampling.num_faces * sampling.num_completions
        images = pipe(num_images, generator, num_inference_steps=sampling.num_inference_steps).images
        picture = grid(images, sampling.num_completions)
    else:
        originals = eval_set.images[: sampling.num_faces]
        images = pipe(
            known_halves(originals, hidden),
            num_completions=sampling.num_completions,
            num_inference_steps=sampling.num_inference_steps,
            generator=generator,
        ).images
        picture = sheet([PIL.Image.fromarray(image) for image in originals], images)
    log, samples = read_log(run / LOG_FILE), _sheet_of(step)
    with replacing(run / "loss.png") as partial:
        save_loss_plot(log, partial)
    write_card(run, config, step, num_parameters(network), log, samples)
    # Last, because `published` looks for it.
    (run / "samples").mkdir(exist_ok=True)
    with replacing(run / samples) as partial:
        save_png(
            picture,
            partial,
            model=f"{run.resolve().name} step {step}",
            sampler=sampling.scheduler,
            steps=sampling.num_inference_steps,
            seed=sampling.seed,
            comment=WHOLE_GENERATED if hidden == "all" else AI_GENERATED,
        )


def load_checkpoint_pipeline(checkpoint: Path) -> HalfFaceInpaintPipeline:
    """The model as it was at a checkpoint, with averaged weights where the run keeps them.

    Args:
        checkpoint: RUN/checkpoints/step-N.

    Returns:
        The pipeline, on the CPU.

    Raises:
        ValueError: If the checkpoint is damaged, the run has no configuration, or its model completes no half.
    """
    written = checkpoint.parent.parent / CONFIG_FILE
    if not written.is_file():
        raise ValueError(f"{checkpoint} is no checkpoint of a run; {written} is missing")
    loaded, config = load_checkpoint(checkpoint), from_yaml(written)
    if config.model.hidden_half == "all":
        raise ValueError(f"{checkpoint} draws whole images and completes no half: its model.hidden_half is 'all'")
    steps = config.noise.num_train_timesteps
    network = build_network(config.model, config.data.height, config.data.width, num_train_timesteps=steps)
    network.load_state_dict({**loaded.network, **loaded.average})
    scheduler = training_scheduler(config.noise, config.objective.prediction_type)
    height, width, model = config.data.height, config.data.width, config.model
    return HalfFaceInpaintPipeline(network.eval(), scheduler, height, width, model.hidden_half, model.known_layout)


def _replace_model(pipe: DiffusionPipeline, run: Path) -> None:
    """Saves the model beside its place and moves it there file by file, so that each is either the old or the new."""
    partial = run / f"{PARTIAL}model"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        pipe.save_pretrained(partial)
        ship_components(pipe, partial)
        files = [file for file in partial.rglob("*") if file.is_file()]
        for file in files:
            file.chmod(0o644)  # safetensors leaves files that only their owner may read
            flush(file)
    except (OSError, SafetensorError) as error:
        # safetensors reports a full disk by an error of its own.
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(f"the model cannot be written to {run}: {error}; {KEPT}") from error
    for file in sorted(files, key=lambda file: file.name == "model_index.json"):
        target = run / file.relative_to(partial)
        target.parent.mkdir(exist_ok=True)
        os.replace(file, target)
    shutil.rmtree(partial)
