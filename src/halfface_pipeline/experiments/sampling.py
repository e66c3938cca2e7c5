"""One model under many samplers, from the same noise (the report's figures 10 and 12 to 17)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from diffusers import SchedulerMixin

from ..config.schema import SamplingConfig
from ..diffusion.samplers import make_sampler
from ..evaluation.cache import complete
from ..evaluation.dataset import EvaluationBatch
from ..evaluation.measure import scores
from ..inference.sheets import comparison
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from ..remote_code.respaced_ddpm import RespacedDDPMScheduler
from .noise_levels import steps_of_size
from .results import Result, Row

STEP_SIZES = (1, 2, 10, 40)
VARIANCE_STEP_SIZES = (1, 10, 40)
SAMPLERS = ("ddpm", "ddim", "dpm++", "unipc", "heun")
STEPS = (5, 10, 20, 50)
SHOWN_FACES = 8
MATCHINGS = ("proportional", "log_snr", "exact")
COLUMNS = {
    "determined_pixel_error": "over pixels that the known half determines; 0 for exact samples",
    "residual_noise": "standard deviation of the remaining white noise, pixel values from 0 to 1",
    "spread": "standard deviation of a pixel among the completions of a half",
    "spread_over_exact": "the spread over that of exact samples of p(hidden | known)",
    "predicted_noise": "noise that the report's schedule leaves: sigma / 2 of the last step that adds noise",
    "network_calls": "per completion",
}


@dataclass(frozen=True)
class Setup:
    """The model and the completions on which samplers are compared; of `sampling`, `num_completions` and `seed`."""

    pipe: HalfFaceInpaintPipeline
    faces: EvaluationBatch
    sampling: SamplingConfig
    batch_size: int = 32


@dataclass(frozen=True)
class Column:
    """A sampler: its title on the sheet, its columns in the table, the scheduler and the steps."""

    title: str
    names: Mapping[str, Any]
    scheduler: SchedulerMixin
    num_steps: int


def step_size(setup: Setup, step_sizes: Sequence[int] = STEP_SIZES, variance_type: str = "fixed_large") -> Result:
    """Ancestral sampling with larger steps: the report's schedules, matched by noise level, and exactly re-spaced.

    The sheet has a column per sampler and a row per completion. ValueError if a step size does not divide T or leads
    to a beta of 1 or more.
    """
    columns = []
    for matching in MATCHINGS:
        for size in step_sizes:
            if size == 1 and matching != MATCHINGS[0]:
                continue  # the trained schedule itself, however it is matched
            title = "s=1" if size == 1 else f"s={size} {matching.replace('proportional', 't/T')}"
            columns.append(_larger_steps(setup, title, size, matching, variance_type))
    return _compare(setup, columns, {"step_sizes": list(step_sizes), "variance_type": variance_type})


def variance(setup: Setup, step_sizes: Sequence[int] = VARIANCE_STEP_SIZES, matching: str = "proportional") -> Result:
    """Compares sigma^2 = beta with the posterior variance at several step sizes, as `step_size`."""
    columns = [
        _larger_steps(setup, f"s={size} {symbol}", size, matching, kind)
        for size in step_sizes
        for kind, symbol in (("fixed_large", "beta"), ("fixed_small", "posterior"))
    ]
    return _compare(setup, columns, {"step_sizes": list(step_sizes), "matching": matching})


def samplers(setup: Setup, names: Sequence[str] = SAMPLERS, steps: Sequence[int] = STEPS) -> Result:
    """Samplers of diffusers at few steps, as `step_size`; ValueError if the model cannot use one."""
    trained = setup.pipe.scheduler
    columns = [
        Column(f"{name} {count}", {"scheduler": name, "steps": count}, make_sampler(name, trained), count)
        for name in names
        for count in steps
    ]
    return _compare(setup, columns, {"schedulers": list(names), "steps": list(steps)})


def _larger_steps(setup: Setup, title: str, size: int, matching: str, variance_type: str) -> Column:
    scheduler = steps_of_size(setup.pipe.scheduler.config, size, matching, variance_type)
    names = {"step_size": size, "matching": "trained" if size == 1 else matching, "variance": variance_type}
    return Column(title, names, scheduler, scheduler.num_inference_steps)


@contextmanager
def sampled_by(pipe: HalfFaceInpaintPipeline, scheduler: SchedulerMixin) -> Iterator[None]:
    """Gives the model another sampler for a while."""
    trained, pipe.scheduler = pipe.scheduler, scheduler
    try:
        yield
    finally:
        pipe.scheduler = trained


def _compare(setup: Setup, columns: Sequence[Column], settings: Mapping[str, Any]) -> Result:
    pipe, faces, n = setup.pipe, setup.faces, setup.sampling.num_completions
    rows, pictures = [], []
    exact = scores(faces, faces.exact) if faces.exact is not None else {}
    for number, column in enumerate(columns, start=1):
        label = f"{number}/{len(columns)} {column.title}"
        with_steps = replace(setup.sampling, num_inference_steps=column.num_steps)
        with sampled_by(pipe, column.scheduler):
            images, hidden = complete(pipe, faces.images, with_steps, setup.batch_size, label)
        pictures.append(images)
        row: Row = {**column.names, "network_calls": pipe.num_timesteps, **scores(faces, hidden)}
        if "spread" in row and "spread" in exact:
            row["spread_over_exact"] = row["spread"] / exact["spread"]
        if isinstance(column.scheduler, RespacedDDPMScheduler):
            row["predicted_noise"] = predicted_noise(column.scheduler)
        rows.append(row)
    if exact:
        first = next(iter(columns[0].names))
        known = {first: "exact samples", **exact, "spread_over_exact": 1.0 if "spread" in exact else None}
        rows.append({name: known.get(name) for name in rows[0]})
    originals = [original for original in faces.originals[:SHOWN_FACES] for _ in range(n)]
    return Result(
        comparison(originals, pictures, [column.title for column in columns]),
        rows,
        {**settings, "num_faces": len(faces.images), "num_completions": n, "seed": setup.sampling.seed},
        {name: meaning for name, meaning in COLUMNS.items() if name in rows[0]},
    )


def predicted_noise(scheduler: RespacedDDPMScheduler) -> float | None:
    """Noise that the report's schedule leaves in a sample, for pixel values from 0 to 1; None for exact re-spacing.

    It is the noise of the last step that adds any: the step after it removes a deviation of sqrt(beta'_1) at most,
    however much was added before.
    """
    if scheduler.config.respacing == "exact":
        return None
    return float(scheduler.process._get_variance(1).sqrt() / 2) if len(scheduler.timesteps) > 1 else 0.0
