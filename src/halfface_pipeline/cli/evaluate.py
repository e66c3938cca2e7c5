"""`halfface evaluate`."""

import argparse
from dataclasses import replace
from pathlib import Path

from ..diffusion.samplers import make_sampler, thorough
from ..evaluation.config import NUM_TRAINING, EvaluationConfig
from ..evaluation.dataset import evaluation_data, training_data
from ..evaluation.evaluate import FILES, REPORT, evaluate
from ..evaluation.features import NAMES
from ..evaluation.figures import SHEET
from ..evaluation.report import as_markdown
from ..hub.push import refresh_card
from ..inference.load import load_pipeline
from ..inference.prior import is_prior, load_prior_of_half
from .options import (
    SAMPLERS,
    add_batch_size,
    add_device,
    add_model,
    add_out,
    add_seed,
    model_on_device,
    output_folder,
    refuse_overwriting,
    sampling_config,
)
from .parser import Parser


def add_arguments(parser: Parser) -> None:
    """Describes the command `evaluate`."""
    parser.describe(
        "Complete held-out halves and measure the result next to baselines. The same command resumes an "
        "interrupted evaluation; other metrics of the same completions generate none again.",
        example="halfface evaluate --model runs/demo --out runs/demo/evaluation",
    )
    parser.add_argument(
        "--data", help="`procedural` or a folder of photos (default: the data the model was trained on)"
    )
    parser.add_argument("--num-faces", type=int, default=64, help="held-out faces (default 64)")
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="S", help="repeat all completions with S seeds (default 1)"
    )
    parser.add_argument(
        "--features",
        metavar="NAME",
        help=f"feature network: {', '.join(NAMES)} (default pixels for procedural faces, dinov2 for photographs)",
    )
    parser.add_argument("--features-path", metavar="PATH", help="where its weights are, if not found by name")
    parser.add_argument("--slices", metavar="COLUMNS", help="compare faces by these columns, A,B,C or `all`")
    parser.add_argument(
        "--read",
        metavar="COLUMNS",
        help="whether completions look older, happier and so on, by probes of these columns: A,B,C or `all`",
    )
    parser.add_argument(
        "--num-training",
        type=int,
        default=NUM_TRAINING,
        metavar="N",
        help=f"training faces to search for the nearest one, and to fit --read to (default {NUM_TRAINING})",
    )
    parser.add_argument("-n", type=int, default=4, help="completions per face (default 4)")
    add_model(parser)
    parser.add_argument("--steps", type=int, help="denoising steps (default 50, those of a distilled model)")
    parser.add_argument("--scheduler", metavar="NAME", help=f"{SAMPLERS} (default ddpm, lcm for distilled models)")
    add_device(parser)
    add_batch_size(parser)
    add_seed(parser, "seed of the completions")
    add_out(parser)
    parser.set_defaults(command=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    out = output_folder(options.out)
    refuse_overwriting(out, FILES)
    pipe = model_on_device(options, load_prior_of_half if is_prior(options.model) else load_pipeline)
    sampling = sampling_config(options, thorough(pipe.scheduler))
    pipe.scheduler = make_sampler(options.scheduler, pipe.scheduler)
    data = evaluation_data(options.data, options.model, pipe)
    config = EvaluationConfig(
        replace(sampling, num_faces=options.num_faces),
        options.batch_size,
        options.seeds,
        options.features or ("pixels" if data.source == "procedural" else "dinov2"),
        options.features_path,
        _names(options.slices),
        _names(options.read),
        options.num_training,
    )
    given = {name: value for name, value in vars(options).items() if name not in ("command", "name", "n")}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
    command = ["halfface", "evaluate", f"-n={options.n}", *words]
    metrics = evaluate(pipe, data, config, out, training_data(options.model), command)
    print(as_markdown(metrics, full=False))
    print(f"report: {out / REPORT}")
    if refresh_card(Path(options.model), out):
        print(f"model card: {Path(options.model) / 'README.md'}")
    print(f"picture: {out / SHEET}")


def _names(words: str | None) -> list[str]:
    return [word.strip() for word in words.split(",")] if words else []
