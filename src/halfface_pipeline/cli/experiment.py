"""`halfface experiment`: the report's figures and tables."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
from diffusers import SchedulerMixin

from ..config.schema import DataConfig, NoiseConfig, SamplerName, SamplingConfig, require
from ..data.images import load_images
from ..diffusion.samplers import make_sampler, training_scheduler
from ..evaluation.dataset import evaluation_data
from ..evaluation.trials import EvaluationBatch, load_trial
from ..experiments import gaussian_posterior, noise_levels, sampling
from ..experiments.objectives import objectives
from ..experiments.prior import default_methods, prior
from ..experiments.results import DETAILS, Result, as_markdown, check_files, write_result
from ..experiments.training_curves import training_curves
from ..experiments.unseen import unseen
from ..hub.push import refresh_card
from ..inference.load import load_pipeline
from ..inference.prior import load_prior
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from .options import output_folder

QUICK = {"num_faces": 4, "n": 2}
THOROUGH = {"num_faces": 16, "n": 4}
EXAMPLES = {
    "forward": "--data photos",
    "schedule": "--step-sizes 1 10 40",
    "step-size": "--model runs/demo --quick",
    "variance": "--model runs/demo --quick",
    "unseen": "--model runs/demo --quick",
    "samplers": "--model runs/demo --quick",
    "objectives": "--model runs/v runs/epsilon",
    "training": "--model runs/demo",
    "prior": "--prior runs/prior_demo --model runs/prior_demo_bottom",
}
"""Arguments between the name of an experiment and --out."""


def add_experiments(commands: Any) -> None:
    """Adds the command `experiment` and its own commands.

    Args:
        commands: The sub-parsers of `halfface`.
    """
    parser = commands.add_parser(
        "experiment",
        help="repeat an experiment of the report",
        description="Repeat an experiment of the report; writes a picture, a table (CSV, Markdown) and a JSON.",
        example="halfface experiment step-size --model runs/demo --quick --out step-size",
    )
    kinds = parser.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")

    def add(name: str, run: Callable[[argparse.Namespace], Result], text: str) -> argparse.ArgumentParser:
        kind = kinds.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            example=f"halfface experiment {name} {EXAMPLES[name]} --out {name}",
        )
        kind.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
        kind.add_argument(
            "--quick", action="store_true", help="4 faces and 2 completions where any are made: minutes on a CPU"
        )
        kind.add_argument("--seed", type=int, default=0, help="of the noise, from 0 to 2**63 - 1 (default 0)")
        kind.set_defaults(command=_command, run=run)
        return kind

    forward = add("forward", _forward, "the forward process on a face (figure 1)")
    schedule = add("schedule", _schedule, "the schedule, shorter ones, and their mismatch (figures 4 and 11)")
    steps = add("step-size", _step_size, "larger steps, noise levels matched or not (figures 10 and 12 to 14)")
    variance = add("variance", _variance, "beta compared with the posterior variance (figures 15 to 17)")
    new = add("unseen", _unseen, "faces of the training set compared with held-out ones (figure 18)")
    few = add("samplers", _samplers, "samplers of diffusers at few steps")
    losses = add("objectives", _objectives, "models by noise-prediction error and by the colours they continue")
    curves = add("training", _training, "loss and learning rate of runs, with a count of spikes (figures 5 to 9)")

    both = add("prior", _prior, "a generative prior under every method compared with a conditional model")

    for kind in (forward, schedule):
        kind.add_argument("--model", metavar="RUN_OR_ID", help="whose schedule (default: the report's)")
    forward.add_argument("--data", help="`procedural` or a folder of photos (default: the model's, or procedural)")
    both.add_argument("--prior", required=True, metavar="RUN_OR_ID", help="model of model.hidden_half all")
    both.add_argument("--methods", nargs="+", metavar="NAME", help="(default: all)")
    both.add_argument("--steps", type=int, default=25, help="denoising steps (default 25)")
    for kind in (steps, variance, new, few, both):
        kind.add_argument("--model", required=True, metavar="RUN_OR_ID", help="run folder, checkpoint or Hub id")
    for kind in (losses, curves):
        kind.add_argument("--model", required=True, nargs="+", metavar="RUN", help="run folders")
    for kind in (steps, variance, few):
        kind.add_argument("--data", help="`procedural` or a folder of photos (default: what the model was trained on)")
    for kind in (steps, variance, new, few, losses, both):
        kind.add_argument("--num-faces", type=int, help=f"faces (default {THOROUGH['num_faces']})")
        kind.add_argument("-n", type=int, help=f"completions of each (default {THOROUGH['n']})")
        kind.add_argument("--batch-size", type=int, default=32, help="completions computed at once (default 32)")
    names = ", ".join(get_args(SamplerName))
    for kind in (new, losses):
        kind.add_argument("--steps", type=int, default=50, help="denoising steps (default 50)")
        kind.add_argument("--scheduler", default="ddpm", metavar="NAME", help=f"{names} (default ddpm)")

    sizes: dict[argparse.ArgumentParser, tuple[int, ...]] = {
        schedule: noise_levels.STEP_SIZES,
        steps: sampling.STEP_SIZES,
        variance: sampling.VARIANCE_STEP_SIZES,
    }
    for kind, default in sizes.items():
        shown = " ".join(str(size) for size in default)
        kind.add_argument(
            "--step-sizes", type=int, nargs="+", default=default, metavar="S", help=f"divisors of T (default {shown})"
        )
    steps.add_argument(
        "--variance", default="fixed_large", help="fixed_large (beta), fixed_small (posterior) or a mix from 0 to 1"
    )
    variance.add_argument("--matching", default="proportional", help="proportional, log_snr or exact")
    few.add_argument("--schedulers", nargs="+", default=sampling.SAMPLERS, metavar="NAME", help=names)
    few.add_argument("--steps", type=int, nargs="+", default=sampling.STEPS, metavar="N", help="denoising steps")


def _command(options: argparse.Namespace) -> None:
    require(0 <= options.seed < 2**63, "--seed", options.seed, "from 0 to 2**63 - 1")
    out = output_folder(options.out)
    check_files(out, options.experiment, DETAILS.get(options.experiment, ()))
    for name, value in (QUICK if getattr(options, "quick", False) else THOROUGH).items():
        if getattr(options, name, 0) is None:
            setattr(options, name, value)
    result = options.run(options)
    words = {name: getattr(options, name) for name in ("model", "data") if getattr(options, name, None) is not None}
    result = Result(result.picture, result.rows, {**words, **result.settings}, result.columns, result.details)
    files = write_result(out, options.experiment, result)
    print(as_markdown(options.experiment, result))
    if options.experiment == "samplers" and refresh_card(Path(options.model), out):
        print(f"model card: {Path(options.model) / 'README.md'}")
    print(f"picture: {files[0]}")


def _forward(options: argparse.Namespace) -> Result:
    if options.model is None:
        photos = None if options.data in (None, "procedural") else options.data
        data = DataConfig(height=112, width=88, num_eval_images=1)
        if photos is not None:
            data = DataConfig("imagefolder", photos, holdout=1.0, on_bad_image="skip", height=108, width=88)
        return noise_levels.forward_process(_process(None), _first_face(data), seed=options.seed)
    pipe = load_pipeline(options.model)
    data = evaluation_data(options.data, options.model, pipe)
    return noise_levels.forward_process(pipe.scheduler.config, _first_face(data), seed=options.seed)


def _first_face(data: DataConfig) -> np.ndarray:
    return load_images(data, "eval").images[0]


def _process(model: str | None) -> Any:
    return (training_scheduler(NoiseConfig(), "epsilon") if model is None else load_pipeline(model).scheduler).config


def _schedule(options: argparse.Namespace) -> Result:
    return noise_levels.schedules(_process(options.model), options.step_sizes)


def _step_size(options: argparse.Namespace) -> Result:
    kind = options.variance
    if kind not in ("fixed_small", "fixed_large"):
        try:
            kind = float(kind)
        except ValueError:
            raise ValueError(
                f"--variance is {kind!r}; it must be fixed_small, fixed_large or a number from 0 to 1"
            ) from None
    pipe, trial = _pipe_and_trial(options)
    return sampling.step_size(pipe, trial, _sampling(options), options.step_sizes, kind, options.batch_size)


def _variance(options: argparse.Namespace) -> Result:
    if options.matching not in sampling.MATCHINGS:
        raise ValueError(f"--matching is {options.matching!r}; it must be one of {', '.join(sampling.MATCHINGS)}")
    pipe, trial = _pipe_and_trial(options)
    return sampling.variance(pipe, trial, _sampling(options), options.step_sizes, options.matching, options.batch_size)


def _samplers(options: argparse.Namespace) -> Result:
    pipe, trial = _pipe_and_trial(options)
    return sampling.samplers(pipe, trial, _sampling(options), options.schedulers, options.steps, options.batch_size)


def _unseen(options: argparse.Namespace) -> Result:
    pipe = load_pipeline(options.model)
    pipe.scheduler = make_sampler(options.scheduler, pipe.scheduler)
    data = evaluation_data(None, options.model, pipe)
    trained_on = load_trial(pipe, data, options.num_faces, options.n, "train")
    held_out = load_trial(pipe, data, options.num_faces, options.n)
    return unseen(pipe, trained_on, held_out, _sampling(options, options.steps), options.batch_size)


def _objectives(options: argparse.Namespace) -> Result:
    models: dict[str, tuple[HalfFaceInpaintPipeline, SchedulerMixin]] = {}
    trial: EvaluationBatch | None = None
    for name in options.model:
        pipe = load_pipeline(name)
        if trial is not None and (pipe.config.height, pipe.config.width) != trial.images.shape[1:3]:
            raise ValueError(
                f"--model {name} draws {pipe.config.height}x{pipe.config.width}; all models must be of one size"
            )
        if trial is None:
            data = evaluation_data("procedural", name, pipe)
            trial = load_trial(pipe, data, options.num_faces, options.n)
        elif pipe.config.hidden_half != trial.hidden_half:
            raise ValueError(f"--model {name} draws the {pipe.config.hidden_half} half; all must draw the same")
        models[_short_name(name, models)] = (pipe, make_sampler(options.scheduler, pipe.scheduler))
    assert trial is not None
    return objectives(models, trial, _sampling(options, options.steps), options.batch_size)


def _prior(options: argparse.Namespace) -> Result:
    conditional, prior_pipe = load_pipeline(options.model), load_prior(options.prior)
    sizes = [(pipe.config.height, pipe.config.width) for pipe in (conditional, prior_pipe)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"--prior and --model draw {sizes[1]} and {sizes[0]}; both must be of one size")
    methods = default_methods(options.steps)
    unknown = [name for name in options.methods or () if name not in methods]
    if unknown:
        raise ValueError(f"--methods has {unknown[0]!r}; it must be of {', '.join(methods)}")
    chosen = {name: methods[name] for name in options.methods or methods}
    trial = load_trial(
        conditional, evaluation_data("procedural", options.model, conditional), options.num_faces, options.n
    )
    prior_pipe.set_progress_bar_config(desc="prior", unit="evaluation")
    gaussian = gaussian_posterior.STEPS[:1] if options.quick else gaussian_posterior.STEPS
    return prior(
        prior_pipe, conditional, trial, _sampling(options, options.steps), chosen, options.batch_size, gaussian
    )


def _short_name(model: str, taken: dict[str, Any]) -> str:
    """The run's name, with the step of a checkpoint; the whole argument where that is taken."""
    path = Path(model)
    name = f"{path.parent.parent.name} {path.name}" if path.parent.name == "checkpoints" else path.name
    return model if name in taken else name


def _training(options: argparse.Namespace) -> Result:
    return training_curves([Path(run) for run in options.model])


def _sampling(options: argparse.Namespace, steps: int = 1) -> SamplingConfig:
    """Completions and seed of the options; the steps count where an experiment has one number of them."""
    return SamplingConfig(num_inference_steps=steps, num_completions=options.n, seed=options.seed)


def _pipe_and_trial(options: argparse.Namespace) -> tuple[HalfFaceInpaintPipeline, EvaluationBatch]:
    pipe = load_pipeline(options.model)
    data = evaluation_data(options.data, options.model, pipe)
    return pipe, load_trial(pipe, data, options.num_faces, options.n)
