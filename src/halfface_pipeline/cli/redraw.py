"""`halfface redraw`: reproduces completions from the metadata of their PNGs."""

import argparse

import numpy as np
import PIL.Image

from ..diffusion.samplers import make_sampler
from ..inference.complete import reproduce
from ..inference.png_metadata import read_png, save_png
from ..inference.speed import use_dtype
from .options import add_device, add_model, model_on_device, numbered, output_folder, refuse_overwriting
from .parser import Parser


def add_arguments(parser: Parser) -> None:
    """Describes the command `redraw`."""
    parser.describe(
        "Reproduce completions from their known half and the seed, sampler and steps in their PNGs, and "
        "report whether the pixels are the same.",
        example="halfface redraw completed/me-3.png --model runs/demo",
    )
    parser.add_argument(
        "pictures", nargs="+", metavar="PICTURE", help="PNGs of `halfface complete` or of the web page"
    )
    add_model(parser, "the model that generated them")
    add_device(parser)
    parser.add_argument("--out", metavar="DIR", help="folder to write the new ones to (default: only compare)")
    parser.set_defaults(command=_redraw)


def _redraw(options: argparse.Namespace) -> None:
    metadata = [read_png(file) for file in options.pictures]
    names: list[str] = []
    for file in options.pictures:
        names.append(next(name for name in numbered(file) if name not in names))
    out = output_folder(options.out) if options.out else None
    if out is not None:
        refuse_overwriting(out, [f"{name}.png" for name in names])
    dtypes = [each.get("dtype", "float32") for each in metadata]
    pipes = {dtype: use_dtype(model_on_device(options), dtype) for dtype in dict.fromkeys(dtypes)}
    trained = {dtype: pipe.scheduler for dtype, pipe in pipes.items()}
    differing = 0
    for file, each, dtype, name in zip(options.pictures, metadata, dtypes, names, strict=True):
        pipes[dtype].scheduler = make_sampler(each["sampler"], trained[dtype])
        with PIL.Image.open(file) as image:
            try:
                again = reproduce(pipes[dtype], image, each)
            except ValueError as error:
                raise ValueError(f"PICTURE is {file!r}; {error}") from error
            difference = np.abs(np.array(again).astype(int) - np.array(image.convert("RGB")))
        values = int((difference > 0).sum())
        print(f"{file}: " + (f"{values} values differ, by up to {difference.max()}" if values else "the same pixels"))
        differing += values > 0
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            save_png(again, out / f"{name}.png", **each)
    if differing:
        raise ValueError(f"{differing} of {len(metadata)} differ: other versions, device or number of threads")
