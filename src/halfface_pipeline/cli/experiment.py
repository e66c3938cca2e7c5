"""`halfface experiment`: the report's figures and tables."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import SchedulerMixin

from ..config.schema import DataConfig, NoiseConfig, SamplingConfig
from ..data.images import load_images
from ..diffusion.samplers import make_sampler, training_scheduler
from ..evaluation.dataset import EvaluationBatch, evaluation_data, load_batch
from ..experiments import gaussian_posterior, noise_levels, sampling
from ..experiments.objectives import objectives
from ..experiments.prior import default_methods, prior
from ..experiments.results import DETAILS, Result, as_markdown, file_names, write_result
from ..experiments.training_curves import training_curves
from ..experiments.unseen import unseen
from ..hub.push import refresh_card
from ..inference.complete import model_name
from ..inference.load import load_pipeline
from ..inference.prior import load_prior
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from .options import (
    SAMPLERS,
    add_batch_size,
    add_out,
    add_seed,
    output_folder,
    refuse_overwriting,
    sampling_config,
)
from .parser import Parser

QUICK = {"num_faces": 4, "n": 2}
THOROUGH = {"num_faces": 16, "n": 4}


def add_arguments(parser: Parser) -> None:
    """Describes the command `experiment`."""
    parser.describe(
        "Repeat an experiment of the report; writes a picture, a table (CSV, Markdown) and a JSON.",
        example="halfface experiment step-size --model runs/demo --quick --out step-size",
    )
    kinds = parser.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")

    def add(name: str, run: Callable[[argparse.Namespace], Result], text: str, example: str) -> Parser:
        kind: Parser = kinds.add_parser(name, help=text)
        kind.describe(text[0].upper() + text[1:] + ".", f"halfface experiment {name} {example} --out {name}")
        kind.set_defaults(command=_command, run=run)
        kind.add_argument("--quick", action="store_true", help="4 faces with 2 completions each, minutes on a CPU")
        add_seed(kind, "seed of the noise")
        add_out(kind)
        return kind

    demo = "--model runs/demo --quick"
    forward = add("forward", _forward, "the forward process on a face (figure 1)", "--data photos")
    text = "the schedule, shorter ones, and their mismatch (figures 4 and 11)"
    schedule = add("schedule", _schedule, text, "--step-sizes 1 10 40")
    steps = add("step-size", _step_size, "larger steps, noise levels matched or not (figures 10 and 12 to 14)", demo)
    variance = add("variance", _variance, "beta compared with the posterior variance (figures 15 to 17)", demo)
    new = add("unseen", _unseen, "faces of the training set compared with held-out ones (figure 18)", demo)
    few = add("samplers", _samplers, "samplers of diffusers at few steps", demo)
    text = "models by noise-prediction error and by the colours they continue"
    losses = add("objectives", _objectives, text, "--model runs/v runs/epsilon")
    text = "loss and learning rate of runs, with a count of spikes (figures 5 to 9)"
    curves = add("training", _training, text, "--model runs/demo")
    text = "a generative prior under every method compared with conditional models"
    both = add("prior", _prior, text, "--prior runs/prior --model runs/bottom")

    for kind in (forward, schedule):
        kind.add_argument("--model", metavar="RUN_OR_ID", help="whose schedule (default: the report's)")
    both.add_argument("--prior", required=True, metavar="RUN_OR_ID", help="model of model.hidden_half all")
    both.add_argument("--masked", metavar="RUN_OR_ID", help="model of model.hidden_half any, to compare too")
    both.add_argument("--methods", nargs="+", metavar="NAME", help="methods of the prior (default all)")
    both.add_argument("--steps", type=int, default=25, help="denoising steps (default 25)")
    for kind in (steps, variance, new, few, both):
        kind.add_argument("--model", required=True, metavar="RUN_OR_ID", help="run folder, checkpoint or Hub id")
    for kind in (losses, curves):
        kind.add_argument("--model", required=True, nargs="+", metavar="RUN", help="run folders")
    for kind in (forward, steps, variance, few):
        kind.add_argument("--data", help="`procedural` or a folder of photos (default: the model's training data)")
    for kind in (steps, variance, new, few, losses, both):
        kind.add_argument("--num-faces", type=int, help=f"faces (default {THOROUGH['num_faces']})")
        kind.add_argument("-n", type=int, help=f"completions per face (default {THOROUGH['n']})")
        add_batch_size(kind)
    for kind in (new, losses):
        kind.add_argument("--steps", type=int, default=50, help="denoising steps (default 50)")
        kind.add_argument("--scheduler", default="ddpm", metavar="NAME", help=f"{SAMPLERS} (default ddpm)")
    defaults = (noise_levels.STEP_SIZES, sampling.STEP_SIZES, sampling.VARIANCE_STEP_SIZES)
    for kind, sizes in zip((schedule, steps, variance), defaults, strict=True):
        text = f"divisors of T (default {' '.join(map(str, sizes))})"
        kind.add_argument("--step-sizes", type=int, nargs="+", default=sizes, metavar="S", help=text)
    steps.add_argument("--variance", default="fixed_large", help="fixed_large (beta) or fixed_small (posterior)")
    variance.add_argument("--matching", default="proportional", choices=sampling.MATCHINGS, help="of noise levels")
    few.add_argument("--schedulers", nargs="+", default=sampling.SAMPLERS, metavar="NAME", help=SAMPLERS)
    few.add_argument("--steps", type=int, nargs="+", default=sampling.STEPS, metavar="N", help="denoising steps")


def _command(options: argparse.Namespace) -> None:
    out = output_folder(options.out)
    refuse_overwriting(out, file_names(options.experiment, DETAILS.get(options.experiment, ())))
    for name, value in (QUICK if options.quick else THOROUGH).items():
        if getattr(options, name, 0) is None:
            setattr(options, name, value)
    result = options.run(options)
    given = {name: getattr(options, name) for name in ("model", "data") if getattr(options, name, None) is not None}
    result = Result(result.picture, result.rows, {**given, **result.settings}, result.columns, result.details)
    files = write_result(out, options.experiment, result)
    print(as_markdown(options.experiment, result))
    if options.experiment == "samplers" and refresh_card(Path(options.model), out):
        print(f"model card: {Path(options.model) / 'README.md'}")
    print(f"picture: {files[0]}")


def _forward(options: argparse.Namespace) -> Result:
    if options.model is not None:
        pipe = load_pipeline(options.model)
        process, data = pipe.scheduler.config, evaluation_data(options.data, options.model, pipe)
    else:
        process, data = _process(None), DataConfig(height=112, width=88, num_eval_images=1)
        if options.data not in (None, "procedural"):
            data = DataConfig("imagefolder", options.data, holdout=1.0, on_bad_image="skip", height=108, width=88)
    face: np.ndarray = load_images(data, "eval").images[0]
    return noise_levels.forward_process(process, face, seed=options.seed)


def _process(model: str | None) -> Any:
    """The noise schedule of a model, or the report's."""
    return (training_scheduler(NoiseConfig(), "epsilon") if model is None else load_pipeline(model).scheduler).config


def _schedule(options: argparse.Namespace) -> Result:
    return noise_levels.schedules(_process(options.model), options.step_sizes)


def _step_size(options: argparse.Namespace) -> Result:
    return sampling.step_size(_setup(options), options.step_sizes, options.variance)


def _variance(options: argparse.Namespace) -> Result:
    return sampling.variance(_setup(options), options.step_sizes, options.matching)


def _samplers(options: argparse.Namespace) -> Result:
    return sampling.samplers(_setup(options), options.schedulers, options.steps)


def _setup(options: argparse.Namespace) -> sampling.Setup:
    pipe = load_pipeline(options.model)
    data = evaluation_data(options.data, options.model, pipe)
    faces = load_batch(pipe, data, options.num_faces, options.n)
    config = SamplingConfig(num_completions=options.n, seed=options.seed)
    return sampling.Setup(pipe, faces, config, options.batch_size)


def _unseen(options: argparse.Namespace) -> Result:
    pipe = load_pipeline(options.model)
    pipe.scheduler = make_sampler(options.scheduler, pipe.scheduler)
    data = evaluation_data(None, options.model, pipe)
    trained_on = load_batch(pipe, data, options.num_faces, options.n, "train")
    held_out = load_batch(pipe, data, options.num_faces, options.n)
    return unseen(pipe, trained_on, held_out, sampling_config(options), options.batch_size)


def _objectives(options: argparse.Namespace) -> Result:
    models: dict[str, tuple[HalfFaceInpaintPipeline, SchedulerMixin]] = {}
    faces: EvaluationBatch | None = None
    for model in options.model:
        pipe = load_pipeline(model)
        if faces is None:
            faces = load_batch(pipe, evaluation_data("procedural", model, pipe), options.num_faces, options.n)
        size, hidden = (pipe.config.height, pipe.config.width), pipe.config.hidden_half
        if (size, hidden) != (faces.images.shape[1:3], faces.hidden_half):
            raise ValueError(
                f"--model {model} generates the {hidden} half of {size[0]}x{size[1]}; all must be of one size and half"
            )
        name = model_name(model)
        models[model if name in models else name] = (pipe, make_sampler(options.scheduler, pipe.scheduler))
    assert faces is not None
    return objectives(models, faces, sampling_config(options), options.batch_size)


def _prior(options: argparse.Namespace) -> Result:
    conditional, prior_pipe = load_pipeline(options.model), load_prior(options.prior, "--prior")
    masked = None if options.masked is None else load_prior(options.masked, "--masked")
    size = (conditional.config.height, conditional.config.width)
    for name, pipe, kind in (("prior", prior_pipe, "all"), ("masked", masked, "any")):
        if pipe is None:
            continue
        if pipe.trained_for_masks != (kind == "any"):
            raise ValueError(f"--{name} is {getattr(options, name)!r}; it must be a model of model.hidden_half {kind}")
        if (found := (pipe.config.height, pipe.config.width)) != size:
            raise ValueError(f"--{name} and --model generate {found} and {size}; both must be of one size")
        pipe.set_progress_bar_config(desc=name, unit="evaluation")
    methods = default_methods(options.steps)
    unknown = [name for name in options.methods or () if name not in methods]
    if unknown:
        raise ValueError(f"--methods has {unknown[0]!r}; it must be of {', '.join(methods)}")
    chosen = {name: methods[name] for name in options.methods or methods}
    data = evaluation_data("procedural", options.model, conditional)
    faces = load_batch(conditional, data, options.num_faces, options.n)
    sampling = SamplingConfig(num_inference_steps=options.steps, num_completions=options.n, seed=options.seed)
    steps = gaussian_posterior.STEPS[:1] if options.quick else gaussian_posterior.STEPS
    return prior(prior_pipe, conditional, faces, sampling, chosen, options.batch_size, steps, masked)


def _training(options: argparse.Namespace) -> Result:
    return training_curves([Path(run) for run in options.model])
