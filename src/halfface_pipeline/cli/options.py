"""What the commands share: common options, and checks of inputs and outputs."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import PIL.Image
import torch

from ..config import samplers
from ..config.schema import MAX_SEED, SamplingConfig
from ..data.picture_folder import picture_suffixes
from ..diffusion.samplers import FEW_STEP_SAMPLER, FEW_STEPS, THOROUGH
from ..inference.load import default_model, load_pipeline, model_terms
from ..inference.png_metadata import SOFTWARE, SOURCE_TYPES

MODEL_HELP = "run folder, Hub id, or photo or drawn where they are installed"
SAMPLERS = ", ".join(samplers.SAMPLERS)
TABLE_WRITTEN_WITHIN = 60
"""Seconds from a command's last PNG to its tables; one that is newer was edited."""
LARGEST_SIDE = 4096
"""Pixels of a side that --size takes at most."""


def add_model(parser: argparse.ArgumentParser, text: str = MODEL_HELP, required: bool = True) -> None:
    """Adds --model; one that is not required is `default_model()` where it is not given."""
    text += "" if required else " (default: photo if it is installed, else drawn)"
    parser.add_argument("--model", required=required, metavar="RUN_OR_ID", help=text)


def add_out(parser: argparse.ArgumentParser) -> None:
    """Adds --out, which `output_folder` checks."""
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to")


def add_seed(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds --seed, from 0 to 2**63 - 1."""
    parser.add_argument("--seed", type=seed, default=0, help=f"{text} (default 0)")


def add_sampling(parser: argparse.ArgumentParser, n: int) -> None:
    """Adds -n, --steps, --scheduler, --seed, which `sampling_config` reads, and --batch-size."""
    parser.add_argument("-n", type=int, default=n, help=f"completions per half (default {n})")
    text = f"denoising steps (default {FEW_STEPS}, or what a distilled model was trained for)"
    parser.add_argument("--steps", type=int, help=text)
    text = f"{SAMPLERS} (default {FEW_STEP_SAMPLER}; ddpm needs more steps); lcm for distilled models, their default"
    parser.add_argument("--scheduler", metavar="NAME", help=text)
    add_batch_size(parser)
    add_seed(parser, "seed of the first completion; completion k has seed + k - 1")


def add_batch_size(parser: argparse.ArgumentParser) -> None:
    """Adds --batch-size."""
    parser.add_argument("--batch-size", type=int, default=32, help="completions computed at once (default 32)")


def sampling_config(options: argparse.Namespace, default: tuple[str, int] = THOROUGH) -> SamplingConfig:
    """The sampling settings of the options, which get this sampler and number of steps where they have none."""
    options.scheduler = options.scheduler or default[0]
    options.steps = default[1] if options.steps is None else options.steps
    for name, value in (("-n", options.n), ("--steps", options.steps)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    return SamplingConfig(options.scheduler, options.steps, num_completions=options.n, seed=options.seed)


def add_speed(parser: argparse.ArgumentParser) -> None:
    """Adds --speed, which `prepare_for_sampling` takes."""
    parser.add_argument(
        "--speed",
        default="auto",
        metavar="auto|safe",
        help="auto uses bfloat16 where the machine has it; safe leaves the weights as saved (default auto)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds --device, which `model_on_device` reads."""
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps (default: the GPU if there is one)")


def model_on_device(options: argparse.Namespace, load: Callable[[str], Any] = load_pipeline) -> Any:
    """The model of --model on the device of --device; progress bars are shown on a terminal only."""
    if options.model is None:
        options.model = default_model()
    if options.device is not None:
        try:
            torch.empty(0, device=options.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"--device is {options.device!r}, which cannot be used here: {reason}") from None
    pipe = load(options.model)
    if terms := model_terms(options.model):
        print(f"model {options.model}: {terms}", file=sys.stderr)
    pipe.set_progress_bar_config(disable=None)
    if options.device is not None:
        pipe.to(options.device)
    return pipe


def crop_box(text: str) -> tuple[int, int, int, int]:
    """LEFT,TOP,RIGHT,BOTTOM of --crop as numbers."""
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--crop is {text!r}; it must be LEFT,TOP,RIGHT,BOTTOM in pixels, or centre") from None
    return left, top, right, bottom


def picture_size(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH of --size as numbers."""
    try:
        height, width = (int(part) for part in text.split("x"))
    except ValueError:
        raise ValueError(f"--size is {text!r}; it must be HEIGHTxWIDTH, for example 112x88") from None
    if max(height, width) > LARGEST_SIDE:
        raise ValueError(f"--size is {text!r}; each side must be at most {LARGEST_SIDE}")
    return height, width


def output_folder(name: str) -> Path:
    """The folder of --out, checked and not yet made."""
    out = Path(name)
    there = next((place for place in (out, *out.absolute().parents) if place.exists()), Path("/"))
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"--out is {name!r}; it must be a folder, and {there} is not one that can be written to")
    return out


def written_by_us(file: Path) -> bool:
    """Whether a file is a PNG that this package wrote."""
    return _png_info(file).items() >= SOFTWARE.items()


def is_generated(file: Path) -> bool:
    """Whether a file is a PNG with something in it that this package generated."""
    return written_by_us(file) and _png_info(file).get("Comment") in SOURCE_TYPES


def _png_info(file: Path) -> dict[Any, Any]:
    """The metadata of a PNG; none of any other file."""
    try:
        with PIL.Image.open(file, formats=["PNG"]) as image:
            return image.info
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return {}


def refuse_overwriting(out: Path, names: Iterable[str]) -> None:
    """Raises before a command that writes files of these names overwrites some that this package did not write.

    A PNG of ours carries `Software=halfface_pipeline`. Tables have no such mark: they count as ours if one of the
    PNGs that would be written with them exists, is ours, and is no more than `TABLE_WRITTEN_WITHIN` seconds older.
    """
    existing = [out / name for name in names if (out / name).exists()]
    pictures = [file for file in existing if file.suffix == ".png"]
    tables = [file for file in existing if file.suffix != ".png"]
    written = max((file.stat().st_mtime for file in pictures), default=-math.inf)
    foreign = [file for file in pictures if not written_by_us(file)]
    foreign += [file for file in tables if file.stat().st_mtime > written + TABLE_WRITTEN_WITHIN]
    if foreign:
        more = f" (and {len(foreign) - 1} more)" if len(foreign) > 1 else ""
        raise ValueError(
            f"--out is {str(out)!r}; it would overwrite {foreign[0]}{more}, which halfface did not write or was "
            "changed since"
        )


def photo_files(names: Sequence[str], is_result: Callable[[Path], bool]) -> list[str]:
    """Replaces each folder by the pictures in it, sorted, without the command's own results."""
    files: list[str] = []
    for name in names:
        if not Path(name).is_dir():
            files.append(name)
            continue
        pictures = sorted(file for file in Path(name).iterdir() if file.suffix.lower() in picture_suffixes())
        found = [str(file) for file in pictures if not is_result(file)]
        if not found:
            results = f" but {len(pictures)} that halfface wrote" if pictures else ""
            suffixes = ", ".join(sorted(picture_suffixes()))
            raise ValueError(f"PHOTO is {name!r}; the folder holds no photo{results} ({suffixes})")
        files += found
    return files


def numbered(file: str) -> Iterator[str]:
    """NAME, NAME_2, NAME_3, ... of a file."""
    stem = Path(file).stem
    return chain([stem], (f"{stem}_{number}" for number in count(2)))


def seed(text: str) -> int:
    """The value of a `--seed` option."""
    if not text.isdecimal() or len(text) > 19 or int(text) > MAX_SEED:
        raise argparse.ArgumentTypeError(f"seed is {text}; it must be a whole number from 0 to 2**63 - 1")
    return int(text)
