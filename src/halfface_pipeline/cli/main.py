"""The `halfface` command."""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import PIL.Image
from diffusers.utils import logging as diffusers_logging
from tqdm.auto import tqdm

from ..config.schema import SamplerName
from ..data.procedural import faces
from ..data.procedural.factors import records
from ..diffusion.samplers import make_sampler
from ..evaluation.dataset import evaluation_data, training_data
from ..evaluation.evaluate import NUM_TRAINING, evaluate
from ..evaluation.features import NAMES
from ..evaluation.report import as_markdown
from ..hub.push import refresh_card
from ..inference.load import load_pipeline
from .app import add_app
from .complete import add_complete
from .experiment import add_experiments
from .features import add_features
from .options import Parser, output_folder, size_of
from .push import add_push

FACES_AT_ONCE = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: Command line words; none takes the process's own.

    Returns:
        The exit status: 0, or 2 after a line that says what was wrong.
    """
    options = command_line().parse_args(arguments)
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
    pipe.scheduler = make_sampler(options.scheduler, pipe.scheduler)
    data = evaluation_data(options.data, options.model, pipe)
    out = output_folder(options.out)
    given = {name: value for name, value in vars(options).items() if name not in ("command", "name", "n")}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
    metrics = evaluate(
        pipe,
        data,
        out,
        options.num_faces,
        options.n,
        options.steps,
        options.seed,
        options.batch_size,
        options.seeds,
        options.features or ("pixels" if data.source == "procedural" else "dinov2"),
        options.features_path,
        _names(options.slices),
        _names(options.read),
        training_data(options.model),
        options.num_training,
        ["halfface", "evaluate", f"-n={options.n}", *words],
    )
    print(as_markdown(metrics, full=False))
    print(f"everything: {out / 'metrics.md'}")
    if refresh_card(Path(options.model), out):
        print(f"model card: {Path(options.model) / 'README.md'}")
    print(f"picture: {out / 'completions.png'}")


def _names(words: str | None) -> list[str]:
    return [word.strip() for word in words.split(",")] if words else []


def command_line() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="halfface",
        description="Complete half-seen faces with diffusion. `halfface COMMAND --help` tells all about a command.",
        example="halfface complete me.jpg --model runs/demo -n 8 --out completed",
    )
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    add_complete(commands)
    render = commands.add_parser(
        "faces",
        help="render procedural faces",
        description="Render procedural faces as PNG files, with their factors in metadata.csv.",
        example="halfface faces 1000 --size 112x88 --out faces",
    )
    render.add_argument("num", type=int, metavar="N", help="how many")
    render.add_argument("--size", default="112x88", metavar="HxW", help="height x width in pixels (default 112x88)")
    render.set_defaults(command=_faces)

    measure = commands.add_parser(
        "evaluate",
        help="measure a model on held-out halves",
        description="Complete held-out halves and measure the result beside its floor and ceiling. The same "
        "command goes on where it was cut short; other measures of the same completions draw none anew.",
        example="halfface evaluate --model runs/demo --out runs/demo/evaluation",
    )
    measure.add_argument(
        "--data", help="`procedural` or a folder of photos (default: the data the model was trained on)"
    )
    measure.add_argument("--num-faces", type=int, default=64, help="held-out faces (default 64)")
    measure.add_argument("-n", type=int, default=4, help="completions of each (default 4)")
    measure.add_argument(
        "--seeds", type=int, default=1, metavar="S", help="complete all anew with S seeds (default 1)"
    )
    measure.add_argument(
        "--features",
        metavar="NAME",
        help=f"feature network: {', '.join(NAMES)} (default pixels for procedural faces, dinov2 for photographs)",
    )
    measure.add_argument("--features-path", metavar="PATH", help="where its weights lie, if not found by name")
    measure.add_argument("--slices", metavar="COLUMNS", help="compare faces by these columns, A,B,C or `all`")
    measure.add_argument(
        "--read",
        metavar="COLUMNS",
        help="say whether completions look older, happier and so on, by readers of these columns: A,B,C or `all`",
    )
    measure.add_argument(
        "--num-training",
        type=int,
        default=NUM_TRAINING,
        metavar="N",
        help=f"training faces searched for the nearest one, and learned from by --read (default {NUM_TRAINING})",
    )
    measure.set_defaults(command=_evaluate)

    add_features(commands)
    add_experiments(commands)
    add_push(commands)
    add_app(commands)
    measure.add_argument("--model", required=True, metavar="RUN_OR_ID", help="run folder or Hub id")
    measure.add_argument("--steps", type=int, default=50, help="denoising steps (default 50)")
    names = ", ".join(get_args(SamplerName))
    measure.add_argument("--scheduler", default="ddpm", metavar="NAME", help=f"{names} (default ddpm)")
    measure.add_argument("--batch-size", type=int, default=32, help="completions computed at once (default 32)")
    for command in (render, measure):
        command.add_argument("--seed", type=int, default=0, help="makes the draw repeatable (default 0)")
        command.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    return parser


if __name__ == "__main__":
    sys.exit(main())
