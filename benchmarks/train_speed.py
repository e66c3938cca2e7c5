"""One optimizer step in the forms it can be taken in, beside diffusers' example loop; prints JSON.

`python benchmarks/train_speed.py [--config FILE] [--batch N] [--rounds N]`. A step is forward pass, backward pass,
gradient clipping, AdamW and the moving average of the weights; each form has a process of its own, and they take
turns. Where denoising-diffusion-pytorch is installed (it needs torchvision, so no extra brings it), its U-Net of 36M
parameters takes its own step on whole images beside them.
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import statistics
from collections.abc import Callable

import torch
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel
from steps import WIDEST_GRADIENT, Step
from timing import compared, machine, product_peak, taking_turns

from halfface_pipeline.config.files import parse_arguments
from halfface_pipeline.diffusion.networks import build_network, training_cost
from halfface_pipeline.inference.speed import keep_freed_memory
from halfface_pipeline.remote_code.halves import size_multiple

DIFFUSERS_HEAD_DIM = 8
PEER = "denoising_diffusion_pytorch"
BASE, WHOLE = "diffusers' loop, half image", "diffusers' loop, whole image"
AUTO = "speed auto: bfloat16, fused, freed memory kept"
FORMS = {
    BASE: {},
    "float32": {},
    "bfloat16": {"bfloat16": True},
    "bfloat16, fused": {"bfloat16": True, "fused": True},
    AUTO: {"bfloat16": True, "fused": True},
    f"{AUTO}, channels last": {"bfloat16": True, "fused": True, "channels_last": True},
    f"{AUTO}, Muon": {"bfloat16": True, "fused": True, "muon": True},
}


def main() -> None:
    """Times all forms in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/celeba_37m.yaml")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config = parse_arguments(["--config", options.config])[0]
    parameters, forward, _ = training_cost(config.model, config.data.height, config.data.width)
    names = [*FORMS, WHOLE, *([f"{PEER}, whole image"] if importlib.util.find_spec(PEER) else [])]
    makers = {name: functools.partial(step_of, name, options.config, options.batch) for name in names}
    taken = taking_turns(makers, options.rounds)
    seconds = {name: [each for each, _, _ in rounds] for name, rounds in taken.items()}
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    rates = {name: 3 * forward * options.batch / medians[name] for name in FORMS}
    peaks = {False: product_peak(torch.float32), True: product_peak(torch.bfloat16)}
    print(
        json.dumps(
            {
                "benchmark": "train_speed",
                **machine(),
                "config": options.config,
                "batch": options.batch,
                "parameters": parameters,
                "gflop_per_image": round(3 * forward / 1e9, 1),
                "step": compared(seconds, BASE, options.batch),
                "gflop_per_second": {name: round(rate / 1e9) for name, rate in rates.items()},
                "product_peak_gflop_per_second": {
                    "float32": round(peaks[False] / 1e9),
                    "bfloat16": round(peaks[True] / 1e9),
                },
                "share_of_product_peak": {
                    name: round(rate / peaks["bfloat16" in FORMS[name]], 2) for name, rate in rates.items()
                },
                "share_outside_passes": {
                    name: round(1 - statistics.median(passes / each for each, passes, _ in taken[name]), 3)
                    for name in FORMS
                },
                "peak_memory_mib": {name: rounds[-1][2] for name, rounds in taken.items()},
            },
            indent=1,
        )
    )


def step_of(name: str, file: str, batch: int) -> Callable[[], float | None]:
    """A step of one form on random images, which returns the seconds of its two passes if it knows them."""
    config = parse_arguments(["--config", file])[0]
    model, height, width = config.model, config.data.height, config.data.width
    torch.manual_seed(0)
    images = torch.rand(batch, 3, height, width) * 2 - 1
    narrow_heads = dataclasses.replace(model, attention_head_dim=DIFFUSERS_HEAD_DIM)
    if name == WHOLE:
        return _whole_image(narrow_heads, height, width, batch)
    if name not in FORMS:
        return _peer(images)
    if name.startswith(AUTO):
        keep_freed_memory()
    form = dict.fromkeys(("bfloat16", "channels_last", "fused", "muon"), False) | FORMS[name]
    step = Step(config, build_network(narrow_heads if name == BASE else model, height, width), **form)
    return lambda: step(images)


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
