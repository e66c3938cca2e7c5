"""Quality against network evaluations: DDPM re-spaced in every way, DDIM and fast solvers; prints JSON, or Markdown.

`python benchmarks/sampler_curve.py --model RUN [--reference 1000] [--num-faces 32] [--work DIR] [--markdown]`, for a
model of procedural faces, whose exact p(hidden | known) can be sampled. Every sampler completes the same faces from
the same noise; with `--work`, completions are kept there and a second call goes on. The reference is DDPM with all its
steps.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers import SchedulerMixin
from timing import machine

from halfface_pipeline.config.schema import SamplingConfig
from halfface_pipeline.diffusion.samplers import make_sampler
from halfface_pipeline.evaluation.cache import complete
from halfface_pipeline.evaluation.dataset import EvaluationBatch, evaluation_data, load_batch
from halfface_pipeline.evaluation.measure import scores
from halfface_pipeline.evaluation.metrics.scoring import distances
from halfface_pipeline.experiments.noise_levels import steps_of_size
from halfface_pipeline.inference.load import load_pipeline

BATCH = 64
TOLERANCE = 0.05
"""How far the energy score may lie above the reference's."""


def cases(trained: SchedulerMixin, reference: int) -> Iterator[tuple[str, int, SchedulerMixin]]:
    """Names, steps and schedulers, the reference first."""

    def other(name: str, **settings) -> SchedulerMixin:
        return getattr(diffusers, name).from_config(trained.config, **settings)

    solver = "DPMSolverMultistepScheduler"
    yield from (
        ("ddpm", steps, make_sampler("ddpm", trained)) for steps in (reference, 50, 20, 10) if steps <= reference
    )
    if trained.config.num_train_timesteps % 40 == 0:
        for matching in ("proportional", "log_snr", "exact"):
            for variance in ("fixed_large", "fixed_small"):
                name = f"report s=40 {matching} {variance}"
                steps = trained.config.num_train_timesteps // 40
                yield name, steps, steps_of_size(trained.config, 40, matching, variance)
    yield from (("ddim", steps, make_sampler("ddim", trained)) for steps in (5, 10, 20, 50))
    yield from (("dpm++ 2M", steps, make_sampler("dpm++", trained)) for steps in (5, 6, 8, 10, 15, 20, 50))
    yield from (("dpm++ 3M", steps, other(solver, solver_order=3)) for steps in (5, 8, 10, 15, 20))
    yield from (("unipc", steps, make_sampler("unipc", trained)) for steps in (5, 8, 10, 15, 20))
    yield from (("deis", steps, other("DEISMultistepScheduler")) for steps in (5, 8, 10, 15, 20))
    yield from (("heun", steps, make_sampler("heun", trained)) for steps in (3, 5, 10))
    yield from (
        (f"dpm++ 2M {spacing}", 10, other(solver, timestep_spacing=spacing)) for spacing in ("linspace", "leading")
    )
    yield "dpm++ 2M karras", 10, other(solver, use_karras_sigmas=True)
    yield from (("dpm++ 2M lambda", steps, other(solver, use_lu_lambdas=True)) for steps in (8, 10, 15, 20))
    yield "dpm++ 3M lambda", 15, other(solver, use_lu_lambdas=True, solver_order=3)
    yield from (("sde-dpm++ 2M", steps, other(solver, algorithm_type="sde-dpmsolver++")) for steps in (10, 20, 50))


def energy_scores(trial: EvaluationBatch, hidden: torch.Tensor) -> torch.Tensor:
    """Energy score of each face in pixels from 0 to 1, averaged over its truth and its exact samples; (N,)."""
    truths = torch.cat([trial.truth[:, None], trial.exact], dim=1).flatten(2) / 255
    completed = hidden.flatten(2) / 255
    return torch.stack([distances(truth, completed).energy_score for truth in truths.unbind(dim=1)]).mean(dim=0)


def main() -> None:
    """Completes with every sampler, then compares each with the reference face by face."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="runs/demo")
    parser.add_argument("--reference", type=int, default=1000)
    parser.add_argument("--num-faces", type=int, default=32)
    parser.add_argument("-n", type=int, default=4)
    parser.add_argument("--work")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    pipe = load_pipeline(options.model)
    trial = load_batch(pipe, evaluation_data(None, options.model, pipe), options.num_faces, options.n)
    if trial.exact is None:
        parser.error("the model must be of procedural faces with the bottom half hidden")
    rows, reference = [], None
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(options.work or temporary)
        work.mkdir(parents=True, exist_ok=True)
        for name, steps, scheduler in list(cases(pipe.scheduler, options.reference)):
            pipe.scheduler = scheduler
            sampling = SamplingConfig(num_inference_steps=steps, num_completions=options.n)
            kept = work / f"{name.replace(' ', '_')}-{steps}.npz"
            if not kept.exists():
                start = time.perf_counter()
                hidden = complete(pipe, trial.images, sampling, BATCH, f"{name} {steps}")[1]
                seconds, calls = time.perf_counter() - start, len(pipe.scheduler.timesteps)
                np.savez(kept, hidden=hidden.numpy(), calls=calls, seconds=seconds)
            stored = np.load(kept)
            hidden = torch.from_numpy(stored["hidden"])
            score = energy_scores(trial, hidden)
            reference = score if reference is None else reference
            apart = (score - reference) / reference.mean()
            measured = scores(trial, hidden)
            rows.append(
                {
                    "sampler": name,
                    "steps": steps,
                    "evaluations": int(stored["calls"]),
                    "seconds": round(float(stored["seconds"]), 1),
                    "energy_score": round(float(score.mean()), 5),
                    "from_reference": round(float(apart.mean()), 4),
                    "standard_error": round(float(apart.std() / len(apart) ** 0.5), 4),
                    **{key: round(measured[key], 4) for key in ("determined_pixel_error", "residual_noise", "spread")},
                }
            )
    exact = scores(trial, trial.exact)
    within = [row for row in rows if row["from_reference"] + 2 * row["standard_error"] <= TOLERANCE]
    result = {
        "benchmark": "sampler_curve",
        **machine(),
        "num_faces": options.num_faces,
        "num_completions": options.n,
        "reference": f"ddpm {options.reference}",
        "exact": {key: round(exact[key], 4) for key in ("residual_noise", "spread")},
        "fewest_evaluations_within_5_percent": min(within, key=lambda row: row["evaluations"])["sampler"],
        "rows": rows,
    }
    print(as_markdown(rows) if options.markdown else json.dumps(result, indent=1))


def as_markdown(rows: list[dict]) -> str:
    """A table with a line a sampler."""
    lines = [" | ".join(name.replace("_", " ") for name in rows[0]), " | ".join("---" for _ in rows[0])]
    for row in rows:
        shown = row | {name: f"{100 * row[name]:+.1f} %" for name in ("from_reference", "standard_error")}
        lines.append(
            " | ".join(
                str(value).replace("+", "") if name == "standard_error" else str(value)
                for name, value in shown.items()
            )
        )
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    main()
