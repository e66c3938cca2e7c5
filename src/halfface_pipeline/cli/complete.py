"""`halfface complete` and `halfface redraw`."""

import argparse
import itertools
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from ..diffusion.samplers import FEW_STEP_SAMPLER, FEW_STEPS, make_sampler
from ..inference.complete import Completion, complete_halves, model_name, reproduce
from ..inference.load import open_photo
from ..inference.png_metadata import LIMITS, read_png, save_png
from ..inference.sheets import sheet
from ..inference.speed import prepare_for_sampling, use_dtype
from ..remote_code.halves import join, to_canonical
from ..remote_code.image_io import known_halves, resize_to
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from .options import (
    add_device,
    add_model,
    add_out,
    add_sampling,
    add_speed,
    model_on_device,
    output_folder,
    photo_files,
    refuse_overwriting,
    sampling_config,
    written_by_us,
)

SAME_SHAPE = 0.01
"""Relative difference of aspect ratios up to which a picture has the shape of a half."""


def add_complete(commands: Any) -> None:
    """Adds the command `complete` to the sub-parsers of `halfface`."""
    parser = commands.add_parser(
        "complete",
        help="generate the hidden half of faces in photos",
        description="Generate the hidden half of each photo N times; writes the faces and a sheet per photo. Each "
        "face is a PNG whose metadata state how it was generated; `halfface redraw` reproduces it.",
        example="halfface complete me.jpg --model runs/demo -n 8 --out completed",
    )
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTO", help="photos of whole faces (halves with --half), or folders of them"
    )
    parser.add_argument("--half", action="store_true", help="the pictures are known halves, not whole faces")
    parser.add_argument("--crop", metavar="L,T,R,B", help="crop each photo to this box, in pixels, first")
    add_model(parser)
    add_sampling(parser, n=8, steps=FEW_STEPS, scheduler=FEW_STEP_SAMPLER)
    add_speed(parser)
    add_device(parser)
    add_out(parser)
    parser.set_defaults(command=_complete)


def add_redraw(commands: Any) -> None:
    """Adds the command `redraw` to the sub-parsers of `halfface`."""
    parser = commands.add_parser(
        "redraw",
        help="reproduce completions from the metadata of their PNGs",
        description="Reproduce completions from their known half and the seed, sampler and steps in their PNGs, and "
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


def _complete(options: argparse.Namespace) -> None:
    sampling = sampling_config(options)
    most = LIMITS["batch"][1]  # of what `redraw` reads
    if not 1 <= options.batch_size <= most:
        raise ValueError(f"--batch-size is {options.batch_size}; it must be from 1 to {most}")
    crop = _crop_box(options.crop) if options.crop else None
    files = photo_files(options.photos)
    out = output_folder(options.out)
    pipe = prepare_for_sampling(model_on_device(options), options.speed)
    pipe.scheduler = make_sampler(options.scheduler, pipe.scheduler)
    photos = _readable_photos(files, crop, pipe, options.half)
    print(f"{options.scheduler}, {options.steps} steps, {str(pipe.unet.dtype)[6:]}", file=sys.stderr)
    faces = [_whole_face(photo, pipe, options.half) for photo in photos.values()]
    halves = known_halves(np.stack([np.array(face) for face in faces]), pipe.config.hidden_half)
    names = _names(list(photos), halves, out, pipe.config.hidden_half)
    numbers = [*range(1, options.n + 1), "sheet"]
    refuse_overwriting(out, [f"{name}-{number}.png" for name in names for number in numbers])
    completions = complete_halves(pipe, halves, sampling, options.batch_size, model_name(options.model))
    out.mkdir(parents=True, exist_ok=True)
    for index, (name, face) in enumerate(zip(names, faces, strict=True)):
        own = completions[index * options.n : (index + 1) * options.n]
        print(_write(out, name, face, own, "given" if options.half else "original"))
    if len(photos) < len(files):
        raise ValueError(f"{len(files) - len(photos)} of {len(files)} photos were not completed, see above")


def _crop_box(text: str) -> tuple[int, int, int, int]:
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--crop is {text!r}; it must be LEFT,TOP,RIGHT,BOTTOM in pixels") from None
    return left, top, right, bottom


def _readable_photos(
    files: Sequence[str], crop: tuple[int, int, int, int] | None, pipe: HalfFaceInpaintPipeline, is_half: bool
) -> dict[str, PIL.Image.Image]:
    """The photos by file; one that cannot be used is reported and left out, if there are others."""
    photos: dict[str, PIL.Image.Image] = {}
    for file in files:
        try:
            with warnings.catch_warnings():  # Pillow warns at 90 and refuses at 179 megapixels
                warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
                photo = open_photo(file, crop)
            if crop is None:
                _check_shape(file, photo, pipe, is_half)
            photos[file] = photo
        except ValueError as error:
            if len(files) == 1 or (not photos and file == files[-1]):
                raise
            print(f"skipped: {' '.join(str(error).split())}", file=sys.stderr)
    return photos


def _check_shape(file: str, photo: PIL.Image.Image, pipe: HalfFaceInpaintPipeline, is_half: bool) -> None:
    """Raises where a half is given for a whole face, or a whole face for a half."""
    height, width = pipe.half_size
    from_half = abs(math.log(photo.width / photo.height / (width / height)))
    from_whole = abs(math.log(photo.width / photo.height / (pipe.config.width / pipe.config.height)))
    found = f"PHOTO is {file!r}, {photo.width}x{photo.height}"
    if is_half and from_half > from_whole:
        raise ValueError(f"{found}; this is the shape of a whole face, not of a half: leave out --half, or use --crop")
    if not is_half and from_half < SAME_SHAPE:
        raise ValueError(f"{found}; this is the shape of a half, not of a whole face: add --half, or use --crop")


def _whole_face(photo: PIL.Image.Image, pipe: HalfFaceInpaintPipeline, is_half: bool) -> PIL.Image.Image:
    """A photo at the size of the model's images; a half is joined with grey."""
    hidden = pipe.config.hidden_half
    if not is_half:
        return resize_to(photo, pipe.config.height, pipe.config.width)
    half = torch.from_numpy(np.array(resize_to(photo, *pipe.half_size))).permute(2, 0, 1)
    known = to_canonical(half, hidden)
    whole = join(known, torch.full_like(known, 128), hidden)
    return PIL.Image.fromarray(whole.permute(1, 2, 0).contiguous().numpy())


def _names(files: Sequence[str], halves: Sequence[np.ndarray], out: Path, hidden_half: str) -> list[str]:
    """File names without endings, numbered where `out` or an earlier file has the name for another photo."""
    names: list[str] = []
    for file, half in zip(files, halves, strict=True):
        free = (name for name in _numbered(file) if name not in names)
        names.append(next(name for name in free if not _is_of_another(out / f"{name}-1.png", half, hidden_half)))
    return names


def _numbered(file: str) -> Iterator[str]:
    """NAME, NAME_2, NAME_3, ... of a file."""
    stem = Path(file).stem
    return itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))


def _is_of_another(file: Path, half: np.ndarray, hidden_half: str) -> bool:
    """Whether a file is a completion of another half."""
    if not written_by_us(file):
        return False
    with PIL.Image.open(file) as image:
        return not np.array_equal(known_halves(np.array(image.convert("RGB"))[None], hidden_half)[0], half)


def _write(out: Path, name: str, face: PIL.Image.Image, completions: Sequence[Completion], title: str) -> Path:
    """Writes the completions of a face, and the sheet, whose path is returned."""
    for number, completion in enumerate(completions, start=1):
        save_png(completion.image, out / f"{name}-{number}.png", **completion.metadata)
    picture = sheet([face], [each.image for each in completions], titles=(title, "completions"))
    save_png(picture, out / f"{name}-sheet.png", **completions[0].metadata)
    return out / f"{name}-sheet.png"


def _redraw(options: argparse.Namespace) -> None:
    metadata = [read_png(file) for file in options.pictures]
    names: list[str] = []
    for file in options.pictures:
        names.append(next(name for name in _numbered(file) if name not in names))
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
