"""`halfface evaluate`."""

import argparse
from pathlib import Path
from typing import Any, get_args

from ..config.schema import SamplerName
from ..diffusion.samplers import make_sampler
from ..evaluation.dataset import evaluation_data, training_data
from ..evaluation.evaluate import NUM_TRAINING, evaluate
from ..evaluation.features import NAMES
from ..evaluation.report import as_markdown
from ..hub.push import refresh_card
from ..inference.load import load_pipeline
from ..inference.prior import is_prior, load_prior_of_half
from .options import output_folder, seed


def add_evaluate(commands: Any) -> None:
    """Adds the command `evaluate` to the sub-parsers of `halfface`."""
    parser = commands.add_parser(
        "evaluate",
        help="measure a model on held-out halves",
        description="Complete held-out halves and measure the result beside its floor and ceiling. The same "
        "command goes on where it was cut short; other measures of the same completions draw none anew.",
        example="halfface evaluate --model runs/demo --out runs/demo/evaluation",
    )
    parser.add_argument(
        "--data", help="`procedural` or a folder of photos (default: the data the model was trained on)"
    )
    parser.add_argument("--num-faces", type=int, default=64, help="held-out faces (default 64)")
    parser.add_argument("-n", type=int, default=4, help="completions of each (default 4)")
    parser.add_argument("--seeds", type=int, default=1, metavar="S", help="complete all anew with S seeds (default 1)")
    parser.add_argument(
        "--features",
        metavar="NAME",
        help=f"feature network: {', '.join(NAMES)} (default pixels for procedural faces, dinov2 for photographs)",
    )
    parser.add_argument("--features-path", metavar="PATH", help="where its weights lie, if not found by name")
    parser.add_argument("--slices", metavar="COLUMNS", help="compare faces by these columns, A,B,C or `all`")
    parser.add_argument(
        "--read",
        metavar="COLUMNS",
        help="say whether completions look older, happier and so on, by readers of these columns: A,B,C or `all`",
    )
    parser.add_argument(
        "--num-training",
        type=int,
        default=NUM_TRAINING,
        metavar="N",
        help=f"training faces searched for the nearest one, and learned from by --read (default {NUM_TRAINING})",
    )
    parser.add_argument("--model", required=True, metavar="RUN_OR_ID", help="run folder or Hub id")
    parser.add_argument("--steps", type=int, default=50, help="denoising steps (default 50)")
    names = ", ".join(get_args(SamplerName))
    parser.add_argument("--scheduler", default="ddpm", metavar="NAME", help=f"{names} (default ddpm)")
    parser.add_argument("--batch-size", type=int, default=32, help="completions computed at once (default 32)")
    parser.add_argument("--seed", type=seed, default=0, help="makes the draw repeatable (default 0)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    parser.set_defaults(command=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    pipe: Any = load_prior_of_half(options.model) if is_prior(options.model) else load_pipeline(options.model)
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
