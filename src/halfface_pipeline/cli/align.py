"""`halfface align`: cuts the faces of photos to one frame, as a training set."""

import argparse
import sys
from pathlib import Path

import numpy as np
import PIL.Image
from tqdm.auto import tqdm

from ..inference.load import open_photo
from ..inference.png_metadata import software_mark
from ..photo.faces import NEEDS_EXTRA, can_find_faces, find_faces
from ..photo.frame import CELEBA_EYES, CELEBA_SIZE, cut_out, fraction_inside, similarity
from .options import add_out, output_folder, photo_files, picture_size, refuse_overwriting, written_by_us
from .parser import Parser

LEAST_INSIDE = 0.88
"""Fraction of the frame that must lie in the photo; beyond its border there are no pixels to learn from."""


def add_arguments(parser: Parser) -> None:
    """Describes the command `align`."""
    parser.describe(
        "Find the largest face of each photo, turn and scale it so that the eyes lie at the same place in "
        "every picture, and write the pictures to a folder that data.path takes. Photos without a face, and those "
        f"that hold less than {LEAST_INSIDE:.0%} of the frame, are reported and left out.",
        example="halfface align photos --out aligned",
    )
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="photos, or folders of them")
    width, height = CELEBA_SIZE
    text = f"height x width of the pictures in pixels (default {height}x{width}, CelebA's)"
    parser.add_argument("--size", default=f"{height}x{width}", metavar="HxW", help=text)
    parser.add_argument(
        "--eyes",
        metavar="X,Y,X,Y",
        help="where the left and the right eye lie, as fractions of width and height; give the same to training as "
        "data.eyes (default CelebA's)",
    )
    add_out(parser)
    parser.set_defaults(command=_align)


def _align(options: argparse.Namespace) -> None:
    height, width = picture_size(options.size)
    eyes = _eyes(options.eyes) * (width, height)
    if not can_find_faces():
        raise ValueError(NEEDS_EXTRA)
    files = photo_files(options.photos, written_by_us)
    out = output_folder(options.out)
    names = [f"{Path(file).stem}.png" for file in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"PHOTO has several files for {twice[0]}; align them into different folders")
    refuse_overwriting(out, names)
    written = 0
    for file, name in zip(tqdm(files, unit="photo", disable=None), names, strict=True):
        try:
            picture = _aligned(open_photo(file, None), eyes, height, width)
        except ValueError as error:
            print(f"left out: {file}: {' '.join(str(error).split())}", file=sys.stderr)
            continue
        out.mkdir(parents=True, exist_ok=True)
        picture.save(out / name, pnginfo=software_mark())
        written += 1
    if not written:
        raise ValueError(f"no face could be cut out of {len(files)} photos, see above")
    trained = f" --data.eyes '[{options.eyes}]'" if options.eyes else ""
    print(f"{written} of {len(files)} faces in {out}; train on them with --data.path {out}{trained}")


def _aligned(photo: PIL.Image.Image, eyes: np.ndarray, height: int, width: int) -> PIL.Image.Image:
    """The largest face of a photo with its eyes at these pixels; ValueError if there is none, or too little of it."""
    faces = find_faces(photo)
    if not faces:
        raise ValueError("no face was found in it")
    place = similarity(eyes, faces[0].eyes)
    inside = fraction_inside(photo.size, place, (0, 0, width, height))
    if inside < LEAST_INSIDE:
        raise ValueError(f"{1 - inside:.0%} of the frame lies outside of it")
    return cut_out(photo, place, height, width)


def _eyes(text: str | None) -> np.ndarray:
    """The two eyes of --eyes, (2, 2), as fractions of width and height; CelebA's for None."""
    if text is None:
        return np.array(CELEBA_EYES) / CELEBA_SIZE
    try:
        eyes = np.array([float(part) for part in text.split(",")]).reshape(2, 2)
    except ValueError:
        eyes = np.full((2, 2), np.nan)
    if not (((eyes > 0) & (eyes < 1)).all() and eyes[0, 0] < eyes[1, 0]):
        raise ValueError(f"--eyes is {text!r}; it must be X,Y,X,Y between 0 and 1, the left eye first")
    return eyes
