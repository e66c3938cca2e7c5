"""Event handlers of the page of `halfface app`."""

import contextlib
import copy
import functools
import logging
import random
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch

from ..config.samplers import DISTILLED, SAMPLERS
from ..data.frames import DRAWN
from ..diffusion.halves import known_halves
from ..diffusion.samplers import FEW_STEP_SAMPLER, FEW_STEPS, few_steps, make_sampler
from ..inference.complete import model_metadata
from ..inference.photos import DRAWN_WARNING, FramedPhoto, frame_warnings
from ..inference.png_metadata import save_png
from ..photo.faces import can_find_faces
from ..photo.frame import Similarity, centred_frame, cut_out, frame_eyes, similarity
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from .crop import (
    PASTED_SIDE,
    PREVIEW_SIDE,
    draw_frame,
    frame,
    look_at,
    read_upload,
    reduced,
    reduced_size,
    settings,
)

logger = logging.getLogger(__name__)

MOST_COMPLETIONS = 16
MOST_STEPS = 250
LARGEST_SEED = 2**31 - 1
"""Sliders and JSON hold no larger whole numbers safely."""

NO_FACE = "no face was found, so the frame starts in the middle: move it until the cut line goes through the face"
NO_SEARCH = "faces are not looked for without the extra photo, so the frame starts in the middle of the photo"
NOT_IN_FRAME = "the frame holds no face that was found"

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

    def faces(self, photo: dict[str, Any]) -> list[Similarity]:
        """The frames around the faces of a photo, the largest first; a picture of the model's own size is one."""
        size, faces = look_at(photo["path"])
        if size == self.shape[::-1]:
            return [centred_frame(size, *self.shape)]
        return [similarity(frame_eyes(self.pipe.config), face.eyes) for face in faces]

    def start(self, photo: dict[str, Any], number: int = 1) -> list[float]:
        """The sliders for the face of this number by size, or for the middle of a photo without faces."""
        size, _ = look_at(photo["path"])
        faces = self.faces(photo) or [centred_frame(size, *self.shape)]
        return settings(size, self.shape, faces[_whole("Face", number, 1, len(faces)) - 1])

    def place(self, photo: dict[str, Any], sliders: Sequence[float | None]) -> Similarity:
        """Where the frame lies; a slider of None is as for the largest face."""
        found = self.start(photo) if None in sliders else sliders
        values: Any = [one if own is None else own for own, one in zip(sliders, found, strict=True)]
        return frame(look_at(photo["path"])[0], self.shape, *values)

    def remarks(self, photo: dict[str, Any], place: Similarity) -> list[str]:
        """What may make the completion inside a frame bad, one line each."""
        faces, eyes = self.faces(photo), frame_eyes(self.pipe.config)
        inside = [place.inverse(face(eyes)) / self.shape[::-1] for face in faces]
        lines = frame_warnings(look_at(photo["path"])[0], place, self.pipe.config)
        if not faces:
            lines.insert(0, NO_FACE if can_find_faces() else NO_SEARCH)
        elif not any(((points >= 0) & (points <= 1)).all() for points in inside):
            lines.insert(0, NOT_IN_FRAME)
        if self.pipe.config.get("trained_on") == DRAWN:
            lines.append(DRAWN_WARNING)
        return lines

    def choose_photo(self, photo: Photo, number: int = 1) -> Iterator[tuple[Any, ...]]:
        """The framed photo, remarks, the photo (None if it cannot be used), which columns are shown, and what frames
        the face of this number: its chooser and the sliders."""
        if photo is not None:
            try:
                sliders, found = self.start(photo, number), len(self.faces(photo))
            except ValueError as error:
                gr.Warning(str(error), title="This photo cannot be used")
            else:
                choices = [(f"{each} of {found}, by size", each) for each in range(1, max(found, 1) + 1)]
                face = gr.Dropdown(choices, value=number, visible=found > 1)
                for shown in self.show_frame(photo, *sliders):
                    yield *shown, *show_columns(gr.skip()), face, *sliders
                return
        yield None, "", *show_columns(None), *[gr.skip()] * 5

    def show_frame(self, photo: Photo, *sliders: float | None) -> Iterator[tuple[Any, Any]]:
        """A file of the framed photo, and what may make its completions bad, as HTML."""
        if photo is None:
            yield gr.skip(), gr.skip()
            return
        with _clear_errors(), tempfile.TemporaryDirectory(prefix="halfface-") as folder:
            place = self.place(photo, sliders)
            remarks = "; ".join(self.remarks(photo, place))
            told = f'<div role="status">{remarks[:1].upper()}{remarks[1:]}</div>'
            # A file, since gradio rewrites an equal picture in place, perhaps while it is being served.
            file = f"{folder}/frame.png"
            draw_frame(read_upload(photo["path"]), place, self.shape, self.hidden).save(file, compress_level=1)
            yield file, told

    def centre_frame(self, photo: Photo, event: gr.SelectData) -> list[Any]:
        """Position of the frame whose cut line goes through the point that was clicked."""
        if photo is None:
            return [gr.skip()] * 2
        with _clear_errors():
            size = reduced_size(look_at(photo["path"])[0], PREVIEW_SIDE)
            return [round(2 * at / side - 1, 3) for at, side in zip(event.index, size, strict=True)]

    def complete(
        self,
        photo: Photo,
        zoom: float | None = None,
        across: float | None = None,
        down: float | None = None,
        turn: float | None = None,
        sampler_name: str = FEW_STEP_SAMPLER,
        steps: int = FEW_STEPS,
        seed: int = 0,
        completions: int = 8,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, how gradio finds it
    ) -> Iterator[tuple[Any, ...]]:
        """Generates completions of a photo, one by one; completion k has the seed `seed` + k, stored in its PNG.

        Args:
            photo: JPEG, PNG, WebP, GIF or BMP.
            zoom: Zoom of the frame: 1 is as large as fits. None, here and below: as the largest face that is found.
            across: Horizontal position of the frame's centre, from -1 (left edge) to 1 (right edge).
            down: Vertical position of the frame's centre, from -1 (upper edge) to 1 (lower edge).
            turn: How far the frame is turned clockwise, in degrees.
            sampler_name: Name of the sampler.
            steps: Denoising steps.
            seed: Seed of the first completion.
            completions: Number of completions.
            progress: Supplied by gradio.

        Yields:
            tuple[Any, ...]: PNG files so far, the photo inside the frame, a zip of all at the end, the number of
                completions so far, as HTML, and PNG files of the photo with each half pasted in.
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
            framed = self.framed(photo, zoom, across, down, turn)
            half = known_halves(np.array(framed.frames[0])[None], self.hidden)[0]
            folder, files, photos = Path(place), list[str](), list[str]()  # gradio copies what is yielded
            given = str(folder / "original.png")
            framed.frames[0].save(given)
            # No gr.skip(): gradio would make a new component for the session and lose track of its files.
            yield [], given, None, note(f"0 of {completions} completions"), []

            def report(pipe: HalfFaceInpaintPipeline, step: int, *_: Any) -> dict[str, Any]:
                total = len(pipe.scheduler.timesteps)
                progress((len(files) * total + step + 1) / (completions * total), f"{len(files)} of {completions}")
                return {}

            for own in range(seed, seed + completions):
                generator = torch.Generator().manual_seed(own)
                image = pipe(half, 1, steps, generator, callback_on_step_end=report).images[0]
                told = {"sampler": sampler_name, "steps": steps, "seed": own, "batch": 1, **self.metadata}
                files.append(str(folder / f"halfface-seed-{own}.png"))
                save_png(image, files[-1], **told)
                photos.append(str(folder / f"photo-seed-{own}.png"))
                save_png(framed.pasted([image], self.hidden), photos[-1], compress_level=1, **told)
                yield files, given, None, note(f"{len(files)} of {completions} completions"), photos
            archive = folder / "halfface-completions.zip"
            with zipfile.ZipFile(archive, "w") as zipped:
                for file in files + photos:
                    zipped.write(file, Path(file).name)
            yield files, given, str(archive), note(f"{len(files)} of {completions} completions"), photos

    def framed(self, photo: dict[str, Any], *sliders: float | None) -> FramedPhoto:
        """The photo, reduced if it is large, and what the model sees of it."""
        picture, (height, width) = read_upload(photo["path"]), self.shape
        place = self.place(photo, sliders)
        if picture.size == (width, height) and place == Similarity(1, 0):
            return FramedPhoto(picture, (picture,), ())
        small, there = reduced(picture, place, PASTED_SIDE)
        return FramedPhoto(small, (cut_out(picture, place, height, width),), (there,))

    def enlarge_first(self, faces: list[dict[str, Any]] | None, photos: Any, chosen: Photo) -> list[Any]:
        """The first completion and its photo, if none has been chosen."""
        return _files(faces, photos, 0) if faces and not chosen else [gr.skip()] * 2

    def enlarge(self, faces: list[dict[str, Any]] | None, photos: Any, event: gr.SelectData) -> list[Any]:
        """The files of the chosen completion and its photo."""
        return _files(faces, photos, event.index) if faces else [gr.skip()] * 2

    def another_seed(self) -> int:
        """A random seed."""
        return random.randrange(LARGEST_SEED - MOST_COMPLETIONS)


def show_columns(photo: Any) -> tuple[Any, ...]:
    """The photo, and which columns are shown: to choose one where it is None, or the frame and the settings."""
    return photo, *(gr.Column(visible=shown) for shown in (photo is None, photo is not None, photo is not None))


def note(text: str) -> str:
    """The line under the buttons, as HTML."""
    return f'<div class="hf-status">{text}</div>'


def _files(faces: list[dict[str, Any]], photos: list[dict[str, Any]], index: int) -> list[Any]:
    return [faces[index]["image"]["path"], photos[index]["path"]]


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
