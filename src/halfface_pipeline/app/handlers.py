"""Event handlers of the page of `halfface app`."""

import contextlib
import copy
import functools
import logging
import random
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch

from ..config.samplers import DISTILLED, SAMPLERS
from ..diffusion.halves import known_halves
from ..diffusion.samplers import FEW_STEP_SAMPLER, FEW_STEPS, few_steps, make_sampler
from ..inference.complete import model_metadata
from ..inference.photos import frame_warnings
from ..inference.png_metadata import save_png
from ..photo.faces import can_find_faces, find_faces
from ..photo.frame import frame_eyes, similarity
from ..remote_code.image_io import resize_to
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from .crop import draw_frame, frame, frame_around, frame_of_face, preview_size, read_upload

logger = logging.getLogger(__name__)

MOST_COMPLETIONS = 16
MOST_STEPS = 250
LARGEST_SEED = 2**31 - 1
"""Sliders and JSON hold no larger whole numbers safely."""

Photo = dict[str, Any] | None
"""An upload as gradio passes it: its path, inside the folder of uploads."""


@dataclass(frozen=True)
class Handlers:
    """Handlers around one model, shared by all visitors and never changed; `name` is its name in the pictures."""

    pipe: HalfFaceInpaintPipeline
    name: str

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the model's images in pixels."""
        return self.pipe.config.height, self.pipe.config.width

    @property
    def hidden(self) -> str:
        """The half that is generated."""
        half: str = self.pipe.config.hidden_half
        return half

    @functools.cached_property
    def metadata(self) -> dict[str, Any]:
        """Metadata of the model in every picture."""
        return model_metadata(self.pipe, self.name)

    @property
    def most_steps(self) -> int:
        """The largest number of denoising steps."""
        sampler, steps = few_steps(self.pipe.scheduler)
        most = steps if sampler == DISTILLED else int(self.pipe.scheduler.config.num_train_timesteps)
        return min(MOST_STEPS, most)

    @property
    def samplers(self) -> list[str]:
        """Samplers that the model can use."""
        usable = []
        for name in (*SAMPLERS, DISTILLED):
            with contextlib.suppress(ValueError):
                make_sampler(name, self.pipe.scheduler)
                usable.append(name)
        return usable

    def show_frame(self, photo: Photo, zoom: float, across: float, down: float) -> tuple[Any, Any, Any]:
        """The framed photo, the photo (None if it cannot be read), and whether the frame is shown."""
        if photo is None:
            return None, gr.skip(), gr.Column(visible=False)
        try:
            picture = read_upload(photo["path"])
            box = frame(picture.size, self.shape, zoom, across, down)
        except ValueError as error:
            gr.Warning(str(error), title="This photo cannot be used")
            return None, None, gr.Column(visible=False)
        return draw_frame(picture, box, self.hidden), gr.skip(), gr.Column(visible=True)

    def first_frame(self, photo: Photo) -> tuple[Any, ...]:
        """As `show_frame`, and zoom and position of the frame: around the largest face, or the largest that fits."""
        zoom, across, down = 1.0, 0.0, 0.0
        if photo is not None and can_find_faces():
            with contextlib.suppress(ValueError):  # `show_frame` reports what cannot be read
                picture = read_upload(photo["path"])
                faces = find_faces(picture)
                if faces:
                    place = similarity(frame_eyes(self.pipe.config), faces[0].eyes)
                    zoom, across, down = frame_of_face(picture.size, self.shape, place)
                    for line in frame_warnings(picture.size, place, self.pipe.config):
                        gr.Warning(line, title="The completions may be bad")
                elif picture.size != self.shape[::-1]:
                    gr.Info("Move the frame so that the cut line goes through the face.", title="No face was found")
        return *self.show_frame(photo, zoom, across, down), zoom, across, down

    def centre_frame(self, photo: Photo, zoom: float, event: gr.SelectData) -> tuple[Any, Any]:
        """Position of the frame whose cut line goes through the point that was clicked."""
        if photo is None:
            return gr.skip(), gr.skip()
        with _clear_errors():
            size = preview_size(read_upload(photo["path"]).size)
            return frame_around(size, self.shape, zoom, (event.index[0], event.index[1]))

    def complete(
        self,
        photo: Photo,
        zoom: float = 1,
        across: float = 0,
        down: float = 0,
        sampler_name: str = FEW_STEP_SAMPLER,
        steps: int = FEW_STEPS,
        seed: int = 0,
        completions: int = 8,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, how gradio finds it
    ) -> Iterator[tuple[Any, ...]]:
        """Generates completions of a photo, one by one; completion k has the seed `seed` + k, stored in its PNG.

        Args:
            photo: JPEG, PNG, WebP, GIF or BMP.
            zoom: Zoom of the frame around the face, from 1 (as large as fits).
            across: Horizontal position of the frame, from -1 (left) to 1 (right).
            down: Vertical position of the frame, from -1 (top) to 1 (bottom).
            sampler_name: Name of the sampler.
            steps: Denoising steps.
            seed: Seed of the first completion.
            completions: Number of completions.
            progress: Supplied by gradio.

        Yields:
            tuple[Any, ...]: PNG files so far, the photo inside the frame, a zip of all at the end, and the number of
                completions so far, as HTML.
        """
        with _clear_errors(), tempfile.TemporaryDirectory(prefix="halfface-") as place:
            if not isinstance(photo, dict) or not photo.get("path"):
                raise ValueError("There is no photo yet: choose one, take one, or take an example.")
            steps = _whole("Steps", steps, 1, self.most_steps)
            seed = _whole("Seed", seed, 0, LARGEST_SEED)
            completions = _whole("Completions", completions, 1, MOST_COMPLETIONS)
            pipe = copy.copy(self.pipe)  # the same network with a scheduler of its own
            pipe.scheduler = make_sampler(sampler_name, self.pipe.scheduler)
            pipe.set_progress_bar_config(disable=True)
            picture = read_upload(photo["path"])
            original = resize_to(picture.crop(frame(picture.size, self.shape, zoom, across, down)), *self.shape)
            half = known_halves(np.array(original)[None], self.hidden)[0]
            folder, files = Path(place), list[str]()  # gradio copies what is yielded
            given = str(folder / "original.png")
            original.save(given)
            # No gr.skip(): gradio would make a new component for the session and lose track of its files.
            yield [], given, None, note(f"0 of {completions} completions")

            def report(pipe: HalfFaceInpaintPipeline, step: int, *_: Any) -> dict[str, Any]:
                total = len(pipe.scheduler.timesteps)
                progress((len(files) * total + step + 1) / (completions * total), f"{len(files)} of {completions}")
                return {}

            for own in range(seed, seed + completions):
                generator = torch.Generator().manual_seed(own)
                image = pipe(half, 1, steps, generator, callback_on_step_end=report).images[0]
                files.append(str(folder / f"halfface-seed-{own}.png"))
                save_png(image, files[-1], sampler=sampler_name, steps=steps, seed=own, batch=1, **self.metadata)
                yield files, given, None, note(f"{len(files)} of {completions} completions")
            archive = folder / "halfface-completions.zip"
            with zipfile.ZipFile(archive, "w") as zipped:
                for file in files:
                    zipped.write(file, Path(file).name)
            yield files, given, str(archive), note(f"{len(files)} of {completions} completions")

    def enlarge_first(self, faces: list[dict[str, Any]] | None, chosen: Photo) -> Any:
        """The first completion, if none has been chosen."""
        return faces[0]["image"]["path"] if faces and not chosen else gr.skip()

    def enlarge(self, faces: list[dict[str, Any]] | None, event: gr.SelectData) -> Any:
        """The file of the chosen completion."""
        return faces[event.index]["image"]["path"] if faces else gr.skip()

    def another_seed(self) -> int:
        """A random seed."""
        return random.randrange(LARGEST_SEED - MOST_COMPLETIONS)


def note(text: str) -> str:
    """The line under the buttons, as HTML."""
    return f'<div class="hf-status">{text}</div>'


def _whole(name: str, value: Any, low: int, high: int) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high or value != int(value):
        raise ValueError(f"{name} is {value}; it must be a whole number from {low} to {high}.")
    return int(value)


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    """Shows a visitor's mistake; other errors go to the log only, since their text can name paths of the server."""
    try:
        yield
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from None
    except Exception:
        logger.exception("a handler of the page failed")
        raise gr.Error("This failed on the server; its log says why.", print_exception=False) from None
