"""One optimizer step in the forms it can be taken in, beside diffusers' example loop; prints JSON.

`python benchmarks/train_speed.py [--config FILE] [--batch N] [--rounds N]`. A step is forward pass, backward pass,
gradient clipping, AdamW and the moving average of the weights.
"""

import argparse
import contextlib
import dataclasses
import json
import statistics
import time

import torch
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel
from timing import compared, interleaved, machine, peak_memory_mib, product_peak
from torch.utils.flop_counter import FlopCounterMode

from halfface_pipeline.config import Config
from halfface_pipeline.config_files import parse_arguments
from halfface_pipeline.draws import draw_step
from halfface_pipeline.halves import size_multiple
from halfface_pipeline.networks import build_network, drawn_shape, num_parameters
from halfface_pipeline.schedules import training_scheduler
from halfface_pipeline.training import denoising_loss

DIFFUSERS_HEAD_DIM = 8
WIDEST_GRADIENT = 1.0


class Step:
    """A network with its optimizer and average, taking steps on given images.

    Args:
        config: The training.
        network: To train.
        bfloat16: Compute products in bfloat16 (autocast).
        channels_last: Memory layout of the weights.
        fused: One kernel for all of AdamW.
    """

    def __init__(
        self, config: Config, network: torch.nn.Module, bfloat16: bool, channels_last: bool, fused: bool
    ) -> None:
        self.config, self.bfloat16 = config, bfloat16
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=fused)
        self.average = EMAModel(network.parameters(), decay=0.999, foreach=True)
        self.scheduler = training_scheduler(config.noise, config.objective.prediction_type)
        self.passes: list[float] = []

    def __call__(self, images: torch.Tensor) -> None:
        """Takes one step on (N, 3, H, W) images in [-1, 1]."""
        shape = drawn_shape(self.config.model, *images.shape[-2:])
        draw = draw_step(0, 0, len(images), len(images), 1000, shape, flip=True)
        start = time.perf_counter()
        with self._precision():
            loss = denoising_loss(self.network, self.scheduler, self.config, images, draw.timesteps, draw.noise)
        loss.backward()
        self.passes.append(time.perf_counter() - start)
        self.update()

    def update(self) -> None:
        """Clips, steps and averages."""
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), WIDEST_GRADIENT)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.step(self.network.parameters())

    def _precision(self) -> contextlib.AbstractContextManager:
        return torch.autocast("cpu", torch.bfloat16) if self.bfloat16 else contextlib.nullcontext()


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


if __name__ == "__main__":
    main()
