"""One optimizer step in the forms it can be taken in, beside diffusers' example loop; prints JSON.

`python benchmarks/train_speed.py [--config FILE] [--batch N] [--rounds N]`. A step is forward pass, backward pass,
gradient clipping, AdamW and the moving average of the weights. Where denoising-diffusion-pytorch is installed (it
needs torchvision, so no extra brings it), its U-Net of 36M parameters takes its own step on whole images beside them.
"""

import argparse
import dataclasses
import importlib.util
import json
import statistics

import torch
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel
from steps import WIDEST_GRADIENT, Step
from timing import compared, interleaved, machine, peak_memory_mib, product_peak
from torch.utils.flop_counter import FlopCounterMode

from halfface_pipeline.config_files import parse_arguments
from halfface_pipeline.halves import size_multiple
from halfface_pipeline.networks import build_network, num_parameters

DIFFUSERS_HEAD_DIM = 8
PEER = "denoising_diffusion_pytorch"


def main() -> None:
    """Times all forms in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/celeba_37m.yaml")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config = parse_arguments(["--config", options.config])[0]
    model, height, width = config.model, config.data.height, config.data.width
    narrow_heads = dataclasses.replace(model, attention_head_dim=DIFFUSERS_HEAD_DIM)
    torch.manual_seed(0)
    images = torch.rand(options.batch, 3, height, width) * 2 - 1
    steps = {
        "diffusers' loop, half image": Step(config, build_network(narrow_heads, height, width), False, False, False),
        "float32": Step(config, build_network(model, height, width), False, False, False),
        "bfloat16": Step(config, build_network(model, height, width), True, False, False),
        "bfloat16, fused": Step(config, build_network(model, height, width), True, False, True),
        "bfloat16, fused, channels last": Step(config, build_network(model, height, width), True, True, True),
    }
    cases = {name: lambda step=step: step(images) for name, step in steps.items()}
    cases["diffusers' loop, whole image"] = _whole_image(narrow_heads, height, width, options.batch)
    if importlib.util.find_spec(PEER):
        cases[f"{PEER}, whole image"] = _peer(images)
    seconds = interleaved(cases, options.rounds)
    with FlopCounterMode(display=False) as counter:
        steps["float32"](images)
    operations = counter.get_total_flops()
    best = "bfloat16, fused"
    peaks = {"float32": product_peak(torch.float32), best: product_peak(torch.bfloat16)}
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    print(
        json.dumps(
            {
                "benchmark": "train_speed",
                **machine(),
                "config": options.config,
                "batch": options.batch,
                "parameters": num_parameters(steps["float32"].network),
                "gflop_per_image": round(operations / options.batch / 1e9, 1),
                "step": compared(seconds, "diffusers' loop, half image", options.batch),
                "share_of_product_peak": {
                    name: round(operations / medians[name] / peak, 2) for name, peak in peaks.items()
                },
                "share_outside_passes": {
                    name: round(1 - statistics.median(step.passes[1 : options.rounds + 1]) / medians[name], 3)
                    for name, step in steps.items()
                },
                "peak_memory_mib": peak_memory_mib(),
            },
            indent=1,
        )
    )


def _whole_image(model, height: int, width: int, batch: int):
    """Inpainting as it is usually trained: noisy whole image and masked image in, noise of the whole image out."""
    half = build_network(model, height, width)
    multiple = size_multiple(half)
    size = tuple(side + -side % multiple for side in (height, width))
    network = UNet2DModel.from_config({**half.config, "sample_size": size})
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    average = EMAModel(network.parameters(), decay=0.999)
    given, noise = torch.randn(batch, 6, *size), torch.randn(batch, 3, *size)

    def step() -> None:
        timesteps = torch.randint(1000, (batch,))
        torch.nn.functional.mse_loss(network(given, timesteps).sample, noise).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), WIDEST_GRADIENT)
        optimizer.step()
        optimizer.zero_grad()
        average.step(network.parameters())

    return step


def _peer(images: torch.Tensor):
    """A training step of denoising-diffusion-pytorch, whose images are in [0, 1] and have no known half."""
    peer = importlib.import_module(PEER)
    network = peer.Unet(dim=64, channels=3)
    size = tuple(side + -side % network.downsample_factor for side in images.shape[-2:])
    diffusion = peer.GaussianDiffusion(network, image_size=size)
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
    average = importlib.import_module("ema_pytorch").EMA(diffusion, beta=0.995, update_every=10)
    given = torch.nn.functional.interpolate((images + 1) / 2, size)

    def step() -> None:
        diffusion(given).backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), WIDEST_GRADIENT)
        optimizer.step()
        optimizer.zero_grad()
        average.update()

    return step


if __name__ == "__main__":
    main()
