"""What the page of `halfface app` answers when something is chosen, moved or pressed."""

import base64
import contextlib
import functools
import io
import logging
import random
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import gradio as gr
import numpy as np

from ..config.schema import SamplerName
from ..diffusion.samplers import FEW_STEP_SAMPLER, FEW_STEPS, make_sampler
from ..inference.complete import model_metadata
from ..inference.png_metadata import save_png
from ..remote_code.image_io import known_halves, resize_to
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from .drawing import Moment, draw, with_scheduler
from .photos import draw_frame, frame, frame_around, preview_size, read_upload

logger = logging.getLogger(__name__)

MOST_COMPLETIONS = 16
MOST_STEPS = 250
LARGEST_SEED = 2**31 - 1

Photo = dict[str, Any] | None
"""An upload as gradio hands it over: its path, inside the folder of uploads."""


@dataclass(frozen=True)
class Answers:
    """Answers around one model. None of them keeps anything of a visitor.

    Args:
        pipe: The model; its network is shared by all visitors, its scheduler is only read.
        name: What the model is called on the page and in the pictures.
        kept: Where pictures lie until they are too old.
    """

    pipe: HalfFaceInpaintPipeline
    name: str
    kept: Path

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the model's images in pixels."""
        return self.pipe.config.height, self.pipe.config.width

    @property
    def hidden(self) -> str:
        """The half that is drawn."""
        half: str = self.pipe.config.hidden_half
        return half

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """What every picture says of the model."""
        return model_metadata(self.pipe, self.name)

    @property
    def most_steps(self) -> int:
        """Denoising steps that may be asked for."""
        return min(MOST_STEPS, int(self.pipe.scheduler.config.num_train_timesteps))

    @property
    def samplers(self) -> list[str]:
        """Samplers this model works with here."""
        usable = []
        for name in get_args(SamplerName):
            with contextlib.suppress(ValueError):
                make_sampler(name, self.pipe.scheduler)
                usable.append(name)
        return usable

    def show_frame(self, photo: Photo, zoom: float, across: float, down: float) -> tuple[Any, Any, Any]:
        """The photo with its frame, the photo (taken away where it cannot be read), and whether the frame is shown."""
        if photo is None:
            return None, gr.skip(), gr.Column(visible=False)
        try:
            picture = read_upload(photo["path"])
            box = frame(picture.size, self.shape, zoom, across, down)
        except ValueError as error:
            gr.Warning(str(error), title="This photo cannot be used")
            return None, None, gr.Column(visible=False)
        return draw_frame(picture, box, self.hidden), gr.skip(), gr.Column(visible=True)

    def centre_frame(self, photo: Photo, zoom: float, event: gr.SelectData) -> tuple[Any, Any]:
        """Where the frame lies whose cut line goes through the point that was tapped."""
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
    ) -> Iterator[tuple[Any, ...]]:
        """Draws completions of a photo, one by one; completion k is drawn from seed + k and says so in its PNG.

        Args:
            photo: JPEG, PNG, WebP, GIF or BMP.
            zoom: Of the frame around the face, from 1 (as large as fits).
            across: Where the frame lies, from -1 (left) to 1 (right).
            down: Where the frame lies, from -1 (top) to 1 (bottom).
            sampler_name: Name of the sampler.
            steps: Denoising steps.
            seed: Of the first completion.
            completions: How many.

        Yields:
            tuple[Any, ...]: PNG files so far, the photo inside the frame, a zip of all at the end, and how far it is,
                as HTML.
        """
        with _clear_errors():
            if not isinstance(photo, dict) or not photo.get("path"):
                raise ValueError("There is no photo yet: choose one, take one, or take an example.")
            steps = _whole("Steps", steps, 1, self.most_steps)
            seed = _whole("Seed", seed, 0, LARGEST_SEED)
            completions = _whole("Completions", completions, 1, MOST_COMPLETIONS)
            pipe = with_scheduler(self.pipe, make_sampler(sampler_name, self.pipe.scheduler))
            picture = read_upload(photo["path"])
            original = resize_to(picture.crop(frame(picture.size, self.shape, zoom, across, down)), *self.shape)
            half = known_halves(np.array(original)[None], self.hidden)[0]
            folder = Path(tempfile.mkdtemp(dir=self.kept))
            original.save(folder / "original.png")
            given, unchanged = str(folder / "original.png"), gr.skip()
            yield [], given, unchanged, idle(f"0 of {completions} completions")
            files: list[str] = []
            for moment in draw(pipe, half, completions, steps, seed):
                if not moment.finished:
                    yield unchanged, unchanged, unchanged, _progress(moment, len(files), completions)
                    continue
                own = seed + len(files)
                file = folder / f"halfface-seed-{own}.png"
                save_png(moment.image, file, sampler=sampler_name, steps=steps, seed=own, batch=1, **self.facts)
                files.append(str(file))
                yield files, unchanged, unchanged, _progress(moment, len(files), completions)
            archive = folder / "halfface-completions.zip"
            with zipfile.ZipFile(archive, "w") as zipped:
                for path in files:
                    zipped.write(path, Path(path).name)
            yield files, given, str(archive), _progress(moment, len(files), completions)  # a program sees only this

    def enlarge_first(self, faces: list[dict[str, Any]] | None, chosen: Photo) -> Any:
        """The first completion, where none has been chosen."""
        return faces[0]["image"]["path"] if faces and not chosen else gr.skip()

    def enlarge(self, faces: list[dict[str, Any]] | None, event: gr.SelectData) -> Any:
        """The completion that was chosen, as a file."""
        return faces[event.index]["image"]["path"] if faces else gr.skip()

    def another_seed(self) -> int:
        """A seed nobody has thought of."""
        return random.randrange(LARGEST_SEED - MOST_COMPLETIONS)


def idle(text: str) -> str:
    """The line under the buttons while nothing is drawn, as HTML."""
    return f'<div class="hf-status"><div>{text}</div></div>'


def _progress(moment: Moment, finished: int, completions: int) -> str:
    picture, left = "", ""
    if finished < completions:
        buffer = io.BytesIO()
        moment.image.save(buffer, format="PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        picture = f'<img alt="the completion in work" src="data:image/png;base64,{data}">'
        left = f", about {moment.seconds / moment.done * (moment.total - moment.done):.0f} s left"
    return (
        f'<div class="hf-status">{picture}<div>{finished} of {completions} completions '
        f"<span>· {moment.seconds:.1f} s{left}</span>"
        f'<progress aria-label="drawing" value="{moment.done}" max="{moment.total}"></progress></div></div>'
    )


def _whole(name: str, value: Any, low: int, high: int) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high or value != int(value):
        raise ValueError(f"{name} is {value}; it must be a whole number from {low} to {high}.")
    return int(value)


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    """What a visitor did wrong is said; what went wrong here goes to the log, and no path of the server goes out."""
    try:
        yield
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from None
    except Exception:
        logger.exception("an answer of the page failed")
        raise gr.Error("This failed on the server; its log says why.", print_exception=False) from None
