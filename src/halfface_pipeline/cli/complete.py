"""`halfface complete`."""

import argparse
import itertools
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from ..diffusion.halves import known_halves
from ..diffusion.samplers import few_steps, make_sampler
from ..inference.complete import Completion, complete_halves, model_name
from ..inference.load import check_crop, load_pipeline, open_photo
from ..inference.photos import Crop, FramedPhoto, frame_photo
from ..inference.png_metadata import LIMITS, save_png
from ..inference.prior import complete_masked, is_prior, load_prior
from ..inference.sheets import sheet
from ..inference.speed import prepare_for_sampling
from ..photo.frame import bounds
from ..remote_code.halves import QUARTER_TURNS, join, to_canonical
from ..remote_code.image_io import resize_to
from ..remote_code.masks import Mask, read_mask
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from ..remote_code.posterior import DEFAULT_METHOD, METHODS
from ..remote_code.prior_pipeline import FacePriorPipeline
from .options import (
    add_device,
    add_model,
    add_out,
    add_sampling,
    add_speed,
    crop_box,
    is_generated,
    model_on_device,
    numbered,
    output_folder,
    photo_files,
    refuse_overwriting,
    sampling_config,
    written_by_us,
)
from .parser import Parser

CROP_ADVICE = "say where the face is by --crop L,T,R,B, or that it fills the photo by --crop centre"
MOST_FACES = 1000
PRIOR_STEPS = 50
SAME_SHAPE = 0.01
"""Relative difference of aspect ratios up to which a picture has the shape of a half."""


def add_arguments(parser: Parser) -> None:
    """Describes the command `complete`."""
    parser.describe(
        "Find the face in each photo, generate its hidden half N times and paste it back; writes the "
        "photos and a sheet per photo. Each is a PNG whose metadata state how it was generated; those of --no-paste "
        "`halfface redraw` reproduces.",
        example="halfface complete me.jpg -n 8 --out completed",
    )
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTO", help="photos of whole faces (halves with --half), or folders of them"
    )
    parser.add_argument("--half", action="store_true", help="the pictures are known halves, not whole faces")
    parser.add_argument(
        "--crop", metavar="L,T,R,B", help="the face fills this box, in pixels; `centre`: it fills the photo"
    )
    parser.add_argument("--face", default="1", metavar="N|all", help="which face, the largest is 1 (default 1)")
    parser.add_argument("--no-paste", action="store_true", help="write the model's own pictures, not the photos")
    add_model(parser, required=False)
    add_sampling(parser, n=8)
    text = "with a model trained for masks or a prior: a picture, white where hidden, or a half (default bottom)"
    parser.add_argument("--mask", metavar="FILE|HALF", help=text)
    text = f"with a prior ({PRIOR_STEPS} steps of ddpm by default): {', '.join(METHODS)} (default {DEFAULT_METHOD})"
    parser.add_argument("--method", metavar="NAME", help=text)
    add_speed(parser)
    add_device(parser)
    add_out(parser)
    parser.set_defaults(command=_complete)


def _complete(options: argparse.Namespace) -> None:
    prior = is_prior(options.model)
    if prior and options.half:
        raise ValueError("--half is for a model of halves; a model of whole images takes whole photos and --mask")
    for name in () if prior else ("mask", "method"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} is for a model of model.hidden_half any or all; {options.model} is none")
    most = LIMITS["batch"][1]  # of what `redraw` reads
    if not 1 <= options.batch_size <= most:
        raise ValueError(f"--batch-size is {options.batch_size}; it must be from 1 to {most}")
    crop, face, mask = _crop(options.crop), _face(options.face), _mask(options.mask)
    files = photo_files(options.photos, is_generated)
    out = output_folder(options.out)
    pipe: Any = model_on_device(options, load_prior if prior else load_pipeline)
    if prior:
        pipe.set_progress_bar_config(disable=None, unit="evaluation")
    else:
        prepare_for_sampling(pipe, options.speed)
    guided = prior and not pipe.trained_for_masks
    sampling = sampling_config(options, ("ddpm", PRIOR_STEPS) if guided else few_steps(pipe.scheduler))
    pipe.scheduler = make_sampler(options.scheduler, pipe.scheduler)
    hidden = None if prior else pipe.config.hidden_half

    def framed(file: str) -> FramedPhoto:
        photo = open_photo(file, None)
        if prior:
            return _framed_for_mask(photo, crop, mask, pipe)
        if options.half:
            return _framed_half(file, photo, crop, pipe)
        return _framed(file, photo, crop, face, pipe)

    photos = _readable_photos(files, framed)
    if options.no_paste and not prior:  # each face is a picture of its own
        photos = [(file, FramedPhoto(frame, (frame,), ())) for file, photo in photos for frame in photo.frames]
    frames = [frame for _, photo in photos for frame in photo.frames]
    names = _names(photos, out, hidden)
    numbers = [*range(1, options.n + 1), "sheet"]
    refuse_overwriting(out, [f"{name}-{number}.png" for name in names for number in numbers])
    model = model_name(options.model)
    if hidden is None:
        completions = complete_masked(pipe, frames, mask, options.method, sampling, options.batch_size, model)
        cost = f"{completions[0].metadata['evaluations']} evaluations per completion"
    else:
        halves = known_halves(np.stack([np.array(frame) for frame in frames]), hidden)
        completions = complete_halves(pipe, halves, sampling, options.batch_size, model)
        cost = str(pipe.unet.dtype).removeprefix("torch.")
    print(f"{options.scheduler}, {options.steps} steps, {cost}", file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    remaining = iter(completions)
    for name, (_, photo) in zip(names, photos, strict=True):
        of_faces = [list(itertools.islice(remaining, options.n)) for _ in photo.frames]
        print(_write(out, name, photo, of_faces, hidden, "given" if options.half else "original"))
    done = len({file for file, _ in photos})
    if done < len(files):
        raise ValueError(f"{len(files) - done} of {len(files)} photos were not completed, see above")


def _crop(text: str | None) -> Crop:
    if text is None or text == "centre":
        return text  # type: ignore[return-value]
    return crop_box(text)


def _face(text: str) -> int | None:
    """The number of --face; None for all."""
    if text == "all":
        return None
    if not text.isdecimal() or not 1 <= int(text[:9]) <= MOST_FACES:
        raise ValueError(f"--face is {text!r}; it must be a number from 1, the largest face, or all")
    return int(text)


def _mask(name: str | None) -> Mask:
    """The half of this name, or the mask in this file."""
    if name is None or name in QUARTER_TURNS:
        return name or "bottom"
    try:
        with PIL.Image.open(name) as image:
            return image.convert("L")
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError):
        halves = ", ".join(QUARTER_TURNS)
        raise ValueError(f"--mask is {name!r}; it must be {halves}, or a picture that is white where hidden") from None


def _readable_photos(files: Sequence[str], framed: Callable[[str], FramedPhoto]) -> list[tuple[str, FramedPhoto]]:
    """The photos with their files; one that cannot be used is reported and left out, if there are others."""
    photos: list[tuple[str, FramedPhoto]] = []
    for file in files:
        try:
            with warnings.catch_warnings():  # Pillow warns at 90 and refuses at 179 megapixels
                warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
                photo = framed(file)
            for line in photo.warnings:
                print(f"{file}: {line}", file=sys.stderr)
            photos.append((file, photo))
        except ValueError as error:
            if len(files) == 1 or (not photos and file == files[-1]):
                raise
            print(f"skipped: {' '.join(str(error).split())}", file=sys.stderr)
    return photos


def _framed(
    file: str, photo: PIL.Image.Image, crop: Crop, face: int | None, pipe: HalfFaceInpaintPipeline
) -> FramedPhoto:
    """The photo in the model's frame; errors name the file and what to do."""
    found = f"PHOTO is {file!r}, {photo.width}x{photo.height}"
    if isinstance(crop, tuple):
        check_crop(crop, photo.size)
    try:
        return frame_photo(photo, pipe.config, crop, face)
    except ValueError as error:
        half = _aspect_distance(photo.size, pipe.half_size[::-1]) < SAME_SHAPE
        advice = "it has the shape of a half: add --half, or use --crop" if half else CROP_ADVICE
        raise ValueError(f"{found}; {error}; {advice}") from None


def _framed_for_mask(photo: PIL.Image.Image, crop: Crop, mask: Mask, pipe: FacePriorPipeline) -> FramedPhoto:
    """A photo for a model of whole images, which resizes it with its mask."""
    if isinstance(crop, tuple):
        check_crop(crop, photo.size)
        photo = photo.crop(crop)
    height, width = pipe.config.height, pipe.config.width
    read_mask(mask, height, width, (photo.height, photo.width))
    return FramedPhoto(resize_to(photo, height, width), (photo,), ())


def _framed_half(file: str, photo: PIL.Image.Image, crop: Crop, pipe: HalfFaceInpaintPipeline) -> FramedPhoto:
    """A known half joined with grey."""
    if isinstance(crop, tuple):
        check_crop(crop, photo.size)
        photo = photo.crop(crop)
    whole, half = (pipe.config.width, pipe.config.height), pipe.half_size[::-1]
    if crop is None and _aspect_distance(photo.size, half) > _aspect_distance(photo.size, whole):
        found = f"PHOTO is {file!r}, {photo.width}x{photo.height}"
        raise ValueError(f"{found}; this is the shape of a whole face, not of a half: leave out --half, or use --crop")
    pixels = torch.from_numpy(np.array(resize_to(photo, *pipe.half_size))).permute(2, 0, 1)
    known = to_canonical(pixels, pipe.config.hidden_half)
    joined = join(known, torch.full_like(known, 128), pipe.config.hidden_half)
    frame = PIL.Image.fromarray(joined.permute(1, 2, 0).contiguous().numpy())
    return FramedPhoto(frame, (frame,), ())


def _aspect_distance(size: tuple[int, int], other: tuple[int, int]) -> float:
    """How far apart the aspects of two sizes are, as the logarithm of their ratio."""
    return abs(math.log(size[0] / size[1] / (other[0] / other[1])))


def _names(photos: Sequence[tuple[str, FramedPhoto]], out: Path, hidden_half: str | None) -> list[str]:
    """File names without endings, numbered where `out` or an earlier file has the name for another photo."""
    names: list[str] = []
    for file, photo in photos:
        free = (name for name in numbered(file) if name not in names)
        if hidden_half is not None:
            free = (name for name in free if not _is_of_another(out / f"{name}-1.png", photo, hidden_half))
        names.append(next(free))
    return names


def _is_of_another(file: Path, photo: FramedPhoto, hidden_half: str) -> bool:
    """Whether a file is a completion of another photo, or of another half of the model's size."""
    if not written_by_us(file):
        return False
    with PIL.Image.open(file) as image:
        there = image.convert("RGB")
    if there.size != photo.photo.size:
        return True
    if photo.places:
        for frame, place in zip(photo.frames, photo.places, strict=True):
            box = bounds(place, (0, 0, *frame.size), 2, there.size)
            there.paste(photo.photo.crop(box), box)
        return not np.array_equal(np.asarray(there), np.asarray(photo.photo))
    before, now = (known_halves(np.array(each)[None], hidden_half)[0] for each in (there, photo.photo))
    return not np.array_equal(before, now)


def _write(
    out: Path,
    name: str,
    photo: FramedPhoto,
    of_faces: Sequence[Sequence[Completion]],
    hidden_half: str | None,
    title: str,
) -> Path:
    """Writes the completions of a photo's faces, and the sheet, whose path is returned."""
    shown = []
    for number, completions in enumerate(zip(*of_faces, strict=True), start=1):
        picture = completions[0].image
        if hidden_half is not None:
            picture = photo.pasted([each.image for each in completions], hidden_half)
        save_png(picture, out / f"{name}-{number}.png", **completions[0].metadata)
        shown.append(photo.view(picture))
    picture = sheet([photo.view(photo.photo)], shown, titles=(title, "completions"))
    save_png(picture, out / f"{name}-sheet.png", **of_faces[0][0].metadata)
    return out / f"{name}-sheet.png"
