"""Training and sampling of the report-sized network on a GPU, as far as the given minutes reach; writes JSON.

`python benchmarks/gpu.py --minutes 8 [--out docs/results/gpu.json]`. Without a GPU it runs on the CPU, slowly. Each
case is written down when it is done; what did not fit into memory or time is named.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from steps import Step
from timing import interleaved, machine, product_peak
from torch.utils.flop_counter import FlopCounterMode

from halfface_pipeline import HalfFaceInpaintPipeline
from halfface_pipeline.config.files import parse_arguments
from halfface_pipeline.config.schema import Config
from halfface_pipeline.diffusion.networks import build_network, num_parameters
from halfface_pipeline.diffusion.samplers import make_sampler, training_scheduler
from halfface_pipeline.inference.speed import prepare_for_sampling

FORMS = {"eager": None, "compiled": "default", "graphs": "reduce-overhead"}
"""Ways to run the network, and the mode of torch.compile behind each."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Runs case after case until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/celeba_37m.yaml")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 256, 512], help="of a training step")
    parser.add_argument("--completions", type=int, default=64, help="drawn at once")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 50, 1000], help="denoising steps")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", default="docs/results/gpu.json")
    options = parser.parse_args(words)
    deadline = time.monotonic() + 60 * options.minutes
    config = parse_arguments(["--config", options.config])[0]
    peak = product_peak(torch.bfloat16, DEVICE)
    result: dict[str, Any] = {
        "benchmark": "gpu",
        **machine(),
        "config": options.config,
        "parameters": num_parameters(_network(config)),
        "bfloat16_product_tflops": round(peak / 1e12, 2),
        "training": [],
        "sampling": [],
        "left_out": [],
    }
    cases = [("training", batch, form) for form in options.forms if form != "graphs" for batch in options.batches]
    cases += [("sampling", steps, form) for steps in options.steps for form in options.forms]
    for kind, number, form in cases:
        case = f"{kind} {number} {form}"
        if time.monotonic() > deadline:
            result["left_out"].append(f"{case}: no time left")
            continue
        try:
            if kind == "training":
                result[kind].append(_training(config, number, form, options.rounds, peak))
            else:
                result[kind].append(_sampling(config, options.completions, number, form))
        except (torch.OutOfMemoryError, RuntimeError) as error:
            result["left_out"].append(f"{case}: {str(error).splitlines()[0]}")
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return result


def _network(config: Config) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(config.model, config.data.height, config.data.width).to(DEVICE)


def _training(config: Config, batch: int, form: str, rounds: int, peak: float) -> dict[str, Any]:
    """Images a second of whole optimizer steps in bfloat16."""
    network = _network(config)
    step = Step(config, network, True, DEVICE == "cuda", True, muon=False)
    images = torch.rand(batch, 3, config.data.height, config.data.width, device=DEVICE) * 2 - 1
    with FlopCounterMode(display=False) as counter:
        step(images)
    if FORMS[form]:
        step.network.compile(mode=FORMS[form])
    seconds = statistics.median(interleaved({"step": lambda: step(images)}, rounds, warmups=2)["step"])
    return {
        "batch": batch,
        "form": form,
        "images_per_second": round(batch / seconds, 1),
        "share_of_product_peak": round(counter.get_total_flops() / seconds / peak, 3),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1) if DEVICE == "cuda" else None,
    }


def _sampling(config: Config, completions: int, steps: int, form: str) -> dict[str, Any]:
    """Completions a second of a whole call of the pipeline, warmed up."""
    scheduler = training_scheduler(config.noise, config.objective.prediction_type)
    data, model = config.data, config.model
    pipe = HalfFaceInpaintPipeline(
        _network(config).eval(), scheduler, data.height, data.width, model.hidden_half, model.known_layout
    )
    prepare_for_sampling(pipe, "auto").set_progress_bar_config(disable=True)
    pipe.scheduler = make_sampler("ddpm" if steps > 100 else "dpm++", scheduler)
    if FORMS[form]:
        pipe.unet.compile(mode=FORMS[form])
    half = torch.zeros(3, *pipe.half_size)
    pipe(half, completions, 2)
    seconds = interleaved({"call": lambda: pipe(half, completions, steps, output_type="pt")}, 1, 0)["call"][0]
    return {"steps": steps, "form": form, "completions_per_second": round(completions / seconds, 2)}


if __name__ == "__main__":
    main()
