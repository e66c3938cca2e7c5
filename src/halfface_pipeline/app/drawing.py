"""Completions as they come: one after another in a thread of their own, each from its own seed."""

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch

from ..remote_code.halves import join, to_canonical
from ..remote_code.image_io import to_uint8
from ..remote_code.pipeline import HalfFaceInpaintPipeline

SECONDS_BETWEEN_LOOKS = 0.3


@dataclass(frozen=True)
class Moment:
    """Where a drawing stands.

    Args:
        done: Denoising steps done, of all completions together.
        total: Denoising steps to do.
        image: A completion that is finished, or else the one in work, noise and all.
        finished: Whether it is finished.
        seconds: Since the start.
    """

    done: int
    total: int
    image: PIL.Image.Image
    finished: bool
    seconds: float


def draw(
    pipe: HalfFaceInpaintPipeline, half: np.ndarray, num_completions: int, num_inference_steps: int, seed: int
) -> Iterator[Moment]:
    """Draws completions one by one, so that the first is there soon and its seed alone is enough to draw each again.

    Completion k is the first draw of a generator seeded with seed + k, alone in its batch. Closing the iterator ends
    the work at the next step.

    Args:
        pipe: The model with the sampler to use; nobody else may use this pipeline at the same time (`with_scheduler`).
        half: The visible half, (h, w, 3) uint8.
        num_completions: How many.
        num_inference_steps: Denoising steps.
        seed: Of the first one.

    Yields:
        Moment: Every finished completion, and now and then the one in work.
    """
    moments: queue.SimpleQueue[Moment | BaseException | None] = queue.SimpleQueue()
    stopped = threading.Event()
    start = looked = time.monotonic()
    known = to_canonical(torch.tensor(half).permute(2, 0, 1), pipe.config.hidden_half)

    def work() -> None:
        finished = 0

        def look(pipe: HalfFaceInpaintPipeline, step: int, _: Any, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
            nonlocal looked
            if stopped.is_set():
                raise InterruptedError
            now = time.monotonic()
            if now - looked >= SECONDS_BETWEEN_LOOKS:
                looked = now
                noisy = tensors["latents"][0].float().cpu()
                noisy = (noisy / max(1.0, float(noisy.std()))).clamp(-1, 1)  # some samplers work far outside [-1, 1]
                image = join(known, to_uint8((noisy + 1) / 2), pipe.config.hidden_half)
                tell(finished * pipe.num_timesteps + step + 1, image, False)
            return {}

        def tell(done: int, image: torch.Tensor, is_finished: bool) -> None:
            picture = PIL.Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
            total = num_completions * pipe.num_timesteps
            moments.put(Moment(done, total, picture, is_finished, time.monotonic() - start))

        try:
            for finished in range(num_completions):
                image = pipe(
                    half,
                    num_inference_steps=num_inference_steps,
                    generator=torch.Generator().manual_seed(seed + finished),
                    callback_on_step_end=look,
                ).images[0]
                pixels = torch.tensor(np.array(image)).permute(2, 0, 1)
                tell((finished + 1) * pipe.num_timesteps, pixels, True)
            moments.put(None)
        except BaseException as error:  # it is raised where the moments are read
            moments.put(error)

    threading.Thread(target=work, name="halfface-draw", daemon=True).start()
    try:
        while (moment := moments.get()) is not None:
            if isinstance(moment, BaseException):
                raise moment
            yield moment
    finally:
        stopped.set()


def with_scheduler(pipe: HalfFaceInpaintPipeline, scheduler: Any) -> HalfFaceInpaintPipeline:
    """A pipeline on the same network with a scheduler of its own, so that two can draw at the same time."""
    settings = {name: pipe.config[name] for name in ("height", "width", "hidden_half", "known_layout")}
    own = HalfFaceInpaintPipeline(pipe.unet, scheduler, **settings)
    own.set_progress_bar_config(disable=True)
    return own
