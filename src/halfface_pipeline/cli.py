"""The `halfface` command."""

import argparse
import csv
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import PIL.Image
import torch
from diffusers.utils import logging as diffusers_logging
from tqdm.auto import tqdm

from .cli_app import add_app
from .cli_experiment import add_experiments
from .cli_inputs import crop_box, evaluation_data, load_pipeline, open_photo, output_folder, size_of
from .config import SamplerName
from .data.procedural import faces, records
from .evaluation.evaluate import as_markdown, evaluate
from .halves import join, turn
from .pictures import known_halves, resize_to
from .plots import sheet
from .schedules import sampler

FACES_AT_ONCE = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: Command line words; none takes the process's own.

    Returns:
        The exit status: 0, or 2 after a line that says what was wrong.
    """
    options = _parser().parse_args(arguments)
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    try:
        options.command(options)
    except (ValueError, OSError) as error:
        print(f"halfface {options.name}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"halfface {options.name}: stopped", file=sys.stderr)
        return 130
    return 0


def _complete(options: argparse.Namespace) -> None:
    if options.n < 1:
        raise ValueError(f"-n is {options.n}; it must be at least 1")
    crop = crop_box(options.crop) if options.crop else None
    photos = [open_photo(file, crop) for file in options.photos]
    out = output_folder(options.out)
    pipe = load_pipeline(options.model)
    pipe.scheduler = sampler(options.scheduler, pipe.scheduler)
    height, width, hidden = pipe.config.height, pipe.config.width, pipe.config.hidden_half
    if options.half:
        halves = [resize_to(photo, *pipe.half_size) for photo in photos]
        shown = [_beside_grey(half, hidden) for half in halves]
    else:
        shown = [resize_to(photo, height, width) for photo in photos]
        halves = [PIL.Image.fromarray(known_halves(np.array(photo)[None], hidden)[0]) for photo in shown]
    images = pipe(
        halves,
        num_completions=options.n,
        num_inference_steps=options.steps,
        generator=[torch.Generator().manual_seed(options.seed) for _ in halves],
        batch_size=options.batch_size,
    ).images
    out.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(_different_names(options.photos)):
        mine = images[index * options.n : (index + 1) * options.n]
        for number, image in enumerate(mine, start=1):
            image.save(out / f"{name}-{number}.png")
        picture = out / f"{name}-sheet.png"
        sheet([shown[index]], mine, titles=("given" if options.half else "original", "completions")).save(picture)
        print(picture)


def _faces(options: argparse.Namespace) -> None:
    height, width = size_of(options.size)
    if options.num < 1:
        raise ValueError(f"N is {options.num}; it must be at least 1")
    out = output_folder(options.out)
    rows: list[dict[str, float | int | bool | str]] = []
    with tqdm(total=options.num, unit="face") as bar:
        for start in range(0, options.num, FACES_AT_ONCE):
            num = min(FACES_AT_ONCE, options.num - start)
            images, factors = faces(num, height, width, seed=options.seed, start=start)
            out.mkdir(parents=True, exist_ok=True)
            for image, record in zip(images, records(factors), strict=True):
                rows.append({"file_name": f"{len(rows):06d}.png", **record})
                PIL.Image.fromarray(image).save(out / str(rows[-1]["file_name"]))
            bar.update(num)
    with (out / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} faces and metadata.csv in {out}")


def _evaluate(options: argparse.Namespace) -> None:
    pipe = load_pipeline(options.model)
    pipe.scheduler = sampler(options.scheduler, pipe.scheduler)
    data = evaluation_data(options.data, options.model, pipe)
    out = output_folder(options.out)
    metrics = evaluate(pipe, data, out, options.num_faces, options.n, options.steps, options.seed, options.batch_size)
    print(as_markdown(metrics))
    print(f"picture: {out / 'completions.png'}")


def _beside_grey(half: PIL.Image.Image, hidden_half: str) -> PIL.Image.Image:
    """A known half in its place, the hidden one grey."""
    known = turn(torch.from_numpy(np.array(half)).permute(2, 0, 1), hidden_half)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="halfface", description="Complete half-seen faces with diffusion.")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    complete = commands.add_parser(
        "complete",
        help="draw the hidden half of faces on photos",
        description="Draw the hidden half of each photo N times; writes the faces and a sheet a photo.",
        epilog="example: halfface complete me.jpg --model runs/demo -n 8 --out completed",
    )
    complete.add_argument("photos", nargs="+", metavar="PHOTO", help="photos of whole faces, or halves with --half")
    complete.add_argument("--half", action="store_true", help="the pictures are visible halves, not whole faces")
    complete.add_argument("--crop", metavar="L,T,R,B", help="cut this box, in pixels, out of each photo first")
    complete.add_argument("-n", type=int, default=8, help="completions of each photo (default 8)")
    complete.set_defaults(command=_complete)

    render = commands.add_parser(
        "faces",
        help="render procedural faces",
        description="Render procedural faces as PNG files, with their factors in metadata.csv.",
        epilog="example: halfface faces 1000 --size 112x88 --out faces",
    )
    render.add_argument("num", type=int, metavar="N", help="how many")
    render.add_argument("--size", default="112x88", metavar="HxW", help="height x width in pixels (default 112x88)")
    render.set_defaults(command=_faces)

    measure = commands.add_parser(
        "evaluate",
        help="measure a model on held-out halves",
        description="Complete held-out halves and measure the result beside its floor and ceiling.",
        epilog="example: halfface evaluate --model runs/demo --data procedural --out runs/demo/evaluation",
    )
    measure.add_argument(
        "--data", help="`procedural` or a folder of photos (default: the data the model was trained on)"
    )
    measure.add_argument("--num-faces", type=int, default=64, help="held-out faces (default 64)")
    measure.add_argument("-n", type=int, default=4, help="completions of each (default 4)")
    measure.set_defaults(command=_evaluate)

    add_experiments(commands)
    add_app(commands)
    for command in (complete, measure):
        command.add_argument("--model", required=True, metavar="RUN_OR_ID", help="run folder or Hub id")
        command.add_argument("--steps", type=int, default=50, help="denoising steps (default 50)")
        names = ", ".join(get_args(SamplerName))
        command.add_argument("--scheduler", default="ddpm", metavar="NAME", help=f"{names} (default ddpm)")
        command.add_argument("--batch-size", type=int, default=32, help="completions computed at once (default 32)")
    for command in (complete, render, measure):
        command.add_argument("--seed", type=int, default=0, help="makes the draw repeatable (default 0)")
        command.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    return parser


if __name__ == "__main__":
    sys.exit(main())
