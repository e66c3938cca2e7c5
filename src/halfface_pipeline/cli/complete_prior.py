"""`halfface complete` with a generative prior: any hidden part, by a mask."""

import argparse
import sys
from pathlib import Path

import PIL.Image

from ..diffusion.samplers import make_sampler
from ..inference.complete import model_name
from ..inference.load import open_photo
from ..inference.png_metadata import save_png
from ..inference.prior import complete_masked, load_prior
from ..inference.sheets import sheet
from ..remote_code.halves import QUARTER_TURNS
from ..remote_code.image_io import resize_to
from ..remote_code.masks import Mask, read_mask
from ..remote_code.posterior import DEFAULT_METHOD, METHODS
from .options import crop_box, output_folder, photo_files, refuse_overwriting, sampling_config

STEPS = 50


def add_mask(parser: argparse.ArgumentParser) -> None:
    """Adds --mask and --method, which `complete_prior` reads."""
    text = (
        f"with a prior ({STEPS} steps of ddpm by default): a picture, white where hidden, or a half (default bottom)"
    )
    parser.add_argument("--mask", metavar="FILE|HALF", help=text)
    text = f"with a prior: {', '.join(METHODS)} (default {DEFAULT_METHOD})"
    parser.add_argument("--method", metavar="NAME", help=text)


def complete_prior(options: argparse.Namespace) -> None:
    """Completes photos where --mask hides them.

    Args:
        options: Of `halfface complete`.

    Raises:
        ValueError: If an option or a photo does not fit the model.
    """
    if options.half:
        raise ValueError("--half is for a model of halves; a prior takes whole photos and --mask")
    crop = crop_box(options.crop) if options.crop not in (None, "centre") else None
    files, out, mask = photo_files(options.photos), output_folder(options.out), _mask(options.mask)
    pipe = load_prior(options.model)
    if options.device is not None:
        pipe.to(options.device)
    pipe.set_progress_bar_config(disable=None, unit="evaluation")
    sampling = sampling_config(options, ("ddpm", STEPS))
    pipe.scheduler = make_sampler(options.scheduler, pipe.scheduler)
    photos = [open_photo(file, crop) for file in files]
    for photo in photos:
        read_mask(mask, pipe.config.height, pipe.config.width, (photo.height, photo.width))
    names: list[str] = []
    for file in files:
        stem = Path(file).stem
        names.append(stem if stem not in names else f"{stem}_{len(names) + 1}")
    refuse_overwriting(
        out, [f"{name}-{number}.png" for name in names for number in [*range(1, options.n + 1), "sheet"]]
    )
    completions = complete_masked(
        pipe, photos, mask, options.method, sampling, options.batch_size, model_name(options.model)
    )
    cost = completions[0].metadata["evaluations"]
    print(f"{options.scheduler}, {options.steps} steps, {cost} evaluations per completion", file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    for index, (photo, name) in enumerate(zip(photos, names, strict=True)):
        mine = completions[index * options.n : (index + 1) * options.n]
        for number, completion in enumerate(mine, start=1):
            save_png(completion.image, out / f"{name}-{number}.png", **completion.metadata)
        original = resize_to(photo, pipe.config.height, pipe.config.width)
        picture = out / f"{name}-sheet.png"
        save_png(sheet([original], [each.image for each in mine]), picture, **mine[0].metadata)
        print(picture)


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
