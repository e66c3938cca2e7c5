"""The model of a run folder, with its sample sheet, loss plot and card."""

import os
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from diffusers import SchedulerMixin
from safetensors import SafetensorError

from ..config.schema import WHOLE, Config
from ..data.images import ImageSet
from ..diffusion.halves import known_halves
from ..diffusion.masks import random_masks
from ..diffusion.samplers import make_sampler
from ..hub.card import write_card
from ..inference.load import trained_pipeline
from ..inference.png_metadata import AI_GENERATED, PART_GENERATED, WHOLE_GENERATED, save_png
from ..inference.sheets import grid, sheet
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from ..remote_code.prior_pipeline import FacePriorPipeline
from ..run_folder.files import PARTIAL, atomic_write, atomic_write_text, fsync
from ..run_folder.log import KEPT, LOG_FILE, read_log
from .loss_plot import save_loss_plot

HIDDEN_GREY = np.uint8(128)


def list_skipped(run: Path, *parts: ImageSet) -> None:
    """Lists the pictures skipped under `data.on_bad_image` skip, with the reason, in skipped_images.txt."""
    lines = [f"{name}: {reason}\n" for part in parts for name, reason in part.skipped]
    if lines:
        atomic_write_text(run / "skipped_images.txt", "".join(lines))


def has_model(run: Path, step: int) -> bool:
    """Whether the model in the run folder is that of this step."""
    return (run / _sheet_of(step)).exists() and (run / "model_index.json").exists()


def _sheet_of(step: int) -> str:
    return f"samples/step-{step:07d}.png"


def save_model(
    config: Config, run: Path, network: torch.nn.Module, scheduler: SchedulerMixin, eval_set: ImageSet, step: int
) -> None:
    """Saves the model into the run folder, with a sample sheet, the loss plot and the card.

    Args:
        config: The run's configuration.
        run: The run folder.
        network: Holding the weights to sample with.
        scheduler: Saved with the model.
        eval_set: Held-out faces for the sheet; that of an unconditional model needs none.
        step: Optimizer steps done.
    """
    hidden = config.model.hidden_half
    saved = type(scheduler).from_config(scheduler.config)
    pipe: FacePriorPipeline | HalfFaceInpaintPipeline
    if hidden in WHOLE:
        pipe = FacePriorPipeline(network.eval(), saved, config.data.height, config.data.width)
    else:
        pipe = trained_pipeline(network, saved, config.data, config.model)
    _replace_model(pipe, run)

    sampling = config.sampling
    pipe.scheduler = make_sampler(sampling.scheduler, saved)
    pipe.set_progress_bar_config(disable=True)
    steps, generator = sampling.num_inference_steps, torch.Generator().manual_seed(sampling.seed)
    comment = AI_GENERATED
    if isinstance(pipe, HalfFaceInpaintPipeline):
        originals = eval_set.images[: sampling.num_faces]
        images = pipe(known_halves(originals, hidden), sampling.num_completions, steps, generator).images
        picture = sheet([PIL.Image.fromarray(image) for image in originals], images)
    elif pipe.trained_for_masks:
        comment = PART_GENERATED
        picture = _masked_sheet(pipe, eval_set.images[: sampling.num_faces], config, generator)
    else:
        comment = WHOLE_GENERATED
        total = sampling.num_faces * sampling.num_completions
        images = pipe(mask="all", num_completions=total, num_inference_steps=steps, generator=generator).images
        picture = grid(images, sampling.num_completions)
    with atomic_write(run / "loss.png") as partial:
        save_loss_plot(read_log(run / LOG_FILE), partial)
    samples = _sheet_of(step)
    write_card(run, samples)
    # Last, because `has_model` looks for it.
    (run / "samples").mkdir(exist_ok=True)
    with atomic_write(run / samples) as partial:
        save_png(
            picture,
            partial,
            model=f"{run.resolve().name} step {step}",
            sampler=sampling.scheduler,
            steps=sampling.num_inference_steps,
            seed=sampling.seed,
            comment=comment,
        )


def _masked_sheet(
    pipe: FacePriorPipeline, originals: np.ndarray, config: Config, generator: torch.Generator
) -> PIL.Image.Image:
    """Faces, what is seen of them under random masks, and completions."""
    count, steps = config.sampling.num_completions, config.sampling.num_inference_steps
    masks = random_masks(len(originals), config.data.height, config.data.width, generator)
    completed = pipe(list(originals), list(masks), None, count, steps, generator).images
    seen = np.where(masks.permute(0, 2, 3, 1), HIDDEN_GREY, originals)
    faces, shown = ([PIL.Image.fromarray(image.squeeze()) for image in images] for images in (originals, seen))
    rows = [[shown[row], *completed[row * count : (row + 1) * count]] for row in range(len(faces))]
    return sheet(faces, [image for row in rows for image in row], ("original", "seen", "completions"))


def _replace_model(pipe: HalfFaceInpaintPipeline | FacePriorPipeline, run: Path) -> None:
    """Saves the model to a temporary folder and moves it file by file, so that each is either the old or the new."""
    partial = run / f"{PARTIAL}model"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        pipe.save_pretrained(partial)
        files = [file for file in partial.rglob("*") if file.is_file()]
        for file in files:
            file.chmod(0o644)  # safetensors makes files readable by their owner only
            fsync(file)
    except (OSError, SafetensorError) as error:
        # safetensors reports a full disk by its own error.
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(f"the model cannot be written to {run}: {error}; {KEPT}") from error
    for file in sorted(files, key=lambda file: file.name == "model_index.json"):
        target = run / file.relative_to(partial)
        target.parent.mkdir(exist_ok=True)
        os.replace(file, target)
    shutil.rmtree(partial)
