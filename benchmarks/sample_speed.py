"""One evaluation of the report-sized network in every form it can be sampled with, beside whole-image inpainting.

Prints JSON: `python benchmarks/sample_speed.py [--config FILE] [--batch N] [--rounds N]`.
"""

import argparse
import copy
import dataclasses
import itertools
import json
import statistics

import torch
from diffusers import RePaintScheduler, UNet2DModel
from timing import compared, interleaved, machine, peak_memory_mib, product_peak
from torch.utils.flop_counter import FlopCounterMode

from halfface_pipeline import HalfFaceInpaintPipeline
from halfface_pipeline.config.files import parse_arguments
from halfface_pipeline.diffusion.networks import build_network, num_parameters, sample_shape
from halfface_pipeline.diffusion.samplers import make_sampler, training_scheduler
from halfface_pipeline.inference.speed import prepare_for_sampling
from halfface_pipeline.remote_code.halves import predict, size_multiple

DIFFUSERS_HEAD_DIM = 8
STEPS = 10
REPAINT = {"num_inference_steps": 250, "jump_length": 10, "jump_n_sample": 10}


def main() -> None:
    """Times single evaluations, then whole completions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/celeba_37m.yaml")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config = parse_arguments(["--config", options.config])[0]
    model, height, width = config.model, config.data.height, config.data.width
    torch.manual_seed(0)
    network = build_network(model, height, width).eval()
    narrow_heads = build_network(
        dataclasses.replace(model, attention_head_dim=DIFFUSERS_HEAD_DIM), height, width
    ).eval()
    whole_size = tuple(side + -side % size_multiple(network) for side in (height, width))
    whole = UNet2DModel.from_config({**narrow_heads.config, "sample_size": whole_size}).eval()
    noise = torch.randn(options.batch, *sample_shape(model, height, width))
    picture = torch.randn(options.batch, 6, *whole_size)
    timestep = torch.tensor(500)
    outputs: dict[str, torch.Tensor] = {}

    def evaluation(name: str, net: torch.nn.Module) -> None:
        given = noise.to(net.dtype)
        outputs[name] = predict(net, given, given, timestep, model.known_layout, size_multiple(net)).float()

    fast = copy.deepcopy(network)
    half = copy.deepcopy(network).to(torch.bfloat16)
    last = copy.deepcopy(half).to(memory_format=torch.channels_last)
    prepare_for_sampling(_pipeline(fast, config), "auto")
    nets = {
        "float32, heads of 8": narrow_heads,
        "float32": network,
        "bfloat16": half,
        "bfloat16, channels last": last,
        "speed auto": fast,
    }
    cases = {name: lambda name=name, net=net: evaluation(name, net) for name, net in nets.items()}
    cases["whole image, float32, heads of 8"] = lambda: whole(picture, timestep)
    with torch.inference_mode():
        seconds = interleaved(cases, options.rounds)
        operations = {}
        for name in ("float32", "speed auto"):
            with FlopCounterMode(display=False) as counter:
                evaluation(name, nets[name])
            operations[name] = counter.get_total_flops() / options.batch
    peaks = {"float32": product_peak(torch.float32), "speed auto": product_peak(fast.dtype)}
    rates = {name: operations[name] * options.batch / statistics.median(seconds[name]) for name in peaks}
    repaint = RePaintScheduler()
    repaint.set_timesteps(**REPAINT)
    # Where the timestep rises, RePaint adds noise again and asks no network.
    asked = 1 + sum(later < earlier for earlier, later in itertools.pairwise(repaint.timesteps.tolist()))
    print(
        json.dumps(
            {
                "benchmark": "sample_speed",
                **machine(),
                "config": options.config,
                "batch": options.batch,
                "parameters": num_parameters(network),
                "gflop_per_evaluation": {name: round(each / 1e9, 1) for name, each in operations.items()},
                "evaluation": compared(seconds, "float32, heads of 8", options.batch),
                "share_of_product_peak": {name: round(rates[name] / peak, 2) for name, peak in peaks.items()},
                "relative_difference": {
                    name: round(float((outputs[name] - outputs["float32"]).norm() / outputs["float32"].norm()), 4)
                    for name in ("bfloat16", "bfloat16, channels last", "speed auto")
                },
                "completion": _completion(_pipeline(fast, config), options.batch),
                "evaluations": {"repaint": asked, "here": STEPS},
                "peak_memory_mib": peak_memory_mib(),
            },
            indent=1,
        )
    )


def _pipeline(network: torch.nn.Module, config) -> HalfFaceInpaintPipeline:
    scheduler = training_scheduler(config.noise, config.objective.prediction_type)
    model, data = config.model, config.data
    return HalfFaceInpaintPipeline(network, scheduler, data.height, data.width, model.hidden_half, model.known_layout)


def _completion(pipe: HalfFaceInpaintPipeline, batch: int) -> dict[str, float]:
    """Seconds of whole calls, and the share of them spent outside the network."""
    pipe.scheduler = make_sampler("dpm++", pipe.scheduler)
    pipe.set_progress_bar_config(disable=True)
    inside: list[float] = []
    half = torch.zeros(3, *pipe.half_size)
    forward = pipe.unet.forward

    def timed(*args, **kwargs):
        taken = interleaved({"network": lambda: outputs.append(forward(*args, **kwargs))}, 1, 0)["network"]
        inside.extend(taken)
        return outputs.pop()

    outputs: list = []
    result = {}
    for number in (1, batch):
        pipe(half, num_completions=number, num_inference_steps=1)
        pipe.unet.forward = timed
        inside.clear()
        whole = interleaved({"call": lambda number=number: pipe(half, number, STEPS)}, 1, 0)["call"][0]
        pipe.unet.forward = forward
        result[f"seconds_per_face_batch_{number}"] = round(whole / number, 3)
        result[f"share_outside_network_batch_{number}"] = round(1 - sum(inside) / whole, 3)
    return result


if __name__ == "__main__":
    main()
