"""`halfface complete` and `halfface redraw`."""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import PIL.Image
import torch

from ..config.schema import SamplerName, SamplingConfig
from ..diffusion.samplers import FEW_STEP_SAMPLER, FEW_STEPS, make_sampler
from ..inference.complete import complete_halves, model_name, reproduce
from ..inference.load import load_pipeline, open_photo
from ..inference.png_metadata import read_png, save_png
from ..inference.sheets import sheet
from ..inference.speed import prepare_for_sampling, use_dtype
from ..remote_code.halves import join, to_canonical
from ..remote_code.image_io import known_halves, resize_to
from .options import add_speed, crop_box, output_folder

SAMPLERS = ", ".join(get_args(SamplerName))


def add_complete(commands: Any) -> None:
    """Adds the commands `complete` and `redraw`.

    Args:
        commands: The sub-parsers of `halfface`.
    """
    complete = commands.add_parser(
        "complete",
        help="draw the hidden half of faces on photos",
        description="Draw the hidden half of each photo N times; writes the faces and a sheet a photo. Each face is "
        "a PNG that says how it was drawn; `halfface redraw` draws it again.",
        example="halfface complete me.jpg --model runs/demo -n 8 --out completed",
    )
    complete.add_argument("photos", nargs="+", metavar="PHOTO", help="photos of whole faces, or halves with --half")
    complete.add_argument("--half", action="store_true", help="the pictures are visible halves, not whole faces")
    complete.add_argument("--crop", metavar="L,T,R,B", help="cut this box, in pixels, out of each photo first")
    complete.add_argument("-n", type=int, default=8, help="completions of each photo (default 8)")
    complete.add_argument("--model", required=True, metavar="RUN_OR_ID", help="run folder or Hub id")
    complete.add_argument(
        "--steps", type=int, default=FEW_STEPS, help=f"denoising steps (default {FEW_STEPS}; ddpm needs more)"
    )
    complete.add_argument(
        "--scheduler", default=FEW_STEP_SAMPLER, metavar="NAME", help=f"{SAMPLERS} (default {FEW_STEP_SAMPLER})"
    )
    add_speed(complete)
    complete.add_argument("--batch-size", type=int, default=32, help="completions computed at once (default 32)")
    complete.add_argument(
        "--seed", type=int, default=0, help="of the first completion; the next has the next one (default 0)"
    )
    complete.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    complete.set_defaults(command=_complete)

    redraw = commands.add_parser(
        "redraw",
        help="draw completions again from what their PNGs say",
        description="Draw completions again from their visible half and what their PNGs say about seed, sampler and "
        "steps, and say whether they come out the same.",
        example="halfface redraw completed/me-3.png --model runs/demo",
    )
    redraw.add_argument("pictures", nargs="+", metavar="PICTURE", help="PNGs of `halfface complete` or of the page")
    redraw.add_argument("--model", required=True, metavar="RUN_OR_ID", help="the model that drew them")
    redraw.add_argument("--out", metavar="DIR", help="folder to write the new ones to (default: only compare)")
    redraw.set_defaults(command=_redraw)


def _complete(options: argparse.Namespace) -> None:
    if options.n < 1:
        raise ValueError(f"-n is {options.n}; it must be at least 1")
    if options.batch_size < 1:
        raise ValueError(f"--batch-size is {options.batch_size}; it must be at least 1")
    sampling = SamplingConfig(options.scheduler, options.steps, num_completions=options.n, seed=options.seed)
    crop = crop_box(options.crop) if options.crop else None
    photos = [open_photo(file, crop) for file in options.photos]
    out = output_folder(options.out)
    pipe = prepare_for_sampling(load_pipeline(options.model), options.speed)
    pipe.scheduler = make_sampler(options.scheduler, pipe.scheduler)
    dtype = str(pipe.unet.dtype).removeprefix("torch.")
    print(f"{options.scheduler}, {options.steps} steps, {dtype}", file=sys.stderr)
    height, width, hidden = pipe.config.height, pipe.config.width, pipe.config.hidden_half
    if options.half:
        halves = [resize_to(photo, *pipe.half_size) for photo in photos]
        shown = [_beside_grey(half, hidden) for half in halves]
    else:
        shown = [resize_to(photo, height, width) for photo in photos]
        halves = [PIL.Image.fromarray(known_halves(np.array(photo)[None], hidden)[0]) for photo in shown]
    name, batch_size = model_name(options.model), options.batch_size
    drawn = complete_halves(pipe, halves, sampling, batch_size, name)
    out.mkdir(parents=True, exist_ok=True)
    for index, stem in enumerate(_different_names(options.photos)):
        mine = drawn[index * options.n : (index + 1) * options.n]
        for number, completion in enumerate(mine, start=1):
            save_png(completion.image, out / f"{stem}-{number}.png", **completion.facts)
        titles = ("given" if options.half else "original", "completions")
        picture = out / f"{stem}-sheet.png"
        save_png(sheet([shown[index]], [each.image for each in mine], titles=titles), picture, **mine[0].facts)
        print(picture)


def _redraw(options: argparse.Namespace) -> None:
    facts = [read_png(file) for file in options.pictures]
    out = output_folder(options.out) if options.out else None
    dtypes = [told.get("dtype", "float32") for told in facts]
    pipes = {dtype: use_dtype(load_pipeline(options.model), dtype) for dtype in dict.fromkeys(dtypes)}
    trained = {dtype: pipe.scheduler for dtype, pipe in pipes.items()}
    differing = []
    for file, told, dtype, stem in zip(
        options.pictures, facts, dtypes, _different_names(options.pictures), strict=True
    ):
        pipe = pipes[dtype]
        pipe.scheduler = make_sampler(told["sampler"], trained[dtype])
        with PIL.Image.open(file) as image:
            try:
                again = reproduce(pipe, image, told)
            except ValueError as error:
                raise ValueError(f"PICTURE is {file!r}; {error}") from error
            difference = np.abs(np.array(again).astype(int) - np.array(image.convert("RGB")))
        values = int((difference > 0).sum())
        print(f"{file}: " + (f"{values} values differ, by up to {difference.max()}" if values else "the same pixels"))
        if values:
            differing.append(file)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            kept = {key: value for key, value in told.items() if key not in ("Comment", "Software")}
            save_png(again, out / f"{stem}.png", **kept)
    if differing:
        raise ValueError(f"{len(differing)} of {len(facts)} came out otherwise: other versions, device or threads")


def _beside_grey(half: PIL.Image.Image, hidden_half: str) -> PIL.Image.Image:
    """A known half in its place, the hidden one grey."""
    known = to_canonical(torch.from_numpy(np.array(half)).permute(2, 0, 1), hidden_half)
    whole = join(known, torch.full_like(known, 128), hidden_half)
    return PIL.Image.fromarray(whole.permute(1, 2, 0).contiguous().numpy())


def _different_names(files: Sequence[str]) -> list[str]:
    """File names without their endings, numbered where one has been taken or begins another's."""
    names: list[str] = []
    for file in files:
        stem = Path(file).stem
        tries = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
        names.append(next(name for name in tries if name not in names))
    return names
