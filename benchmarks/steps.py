"""An optimizer step as the training loop takes it, in the forms that the benchmarks compare."""

import contextlib
import time

import torch

from halfface_pipeline.config.schema import Config
from halfface_pipeline.diffusion.loss import denoising_loss
from halfface_pipeline.diffusion.networks import sample_shape
from halfface_pipeline.diffusion.samplers import training_scheduler
from halfface_pipeline.training.batches import sample_batch
from halfface_pipeline.training.ema import EMA
from halfface_pipeline.training.optimizer import Muon

WIDEST_GRADIENT = 1.0


class Step:
    """A network with its optimizer and average, taking steps on given images.

    Args:
        config: The training.
        network: To train, on its device.
        bfloat16: Compute products in bfloat16 (autocast).
        channels_last: Memory layout of the weights.
        fused: One kernel for all of AdamW and one pass for the average; without it, as diffusers' example does them.
        muon: Muon instead of AdamW.
    """

    def __init__(
        self, config: Config, network: torch.nn.Module, bfloat16: bool, channels_last: bool, fused: bool, muon: bool
    ) -> None:
        self.config, self.bfloat16, self.fused = config, bfloat16, fused
        self.device = next(network.parameters()).device
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        adamw = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=fused)
        self.optimizer = Muon(network.parameters(), lr=1e-4) if muon else adamw
        self.average = EMA(network, decay=0.999)
        self.scheduler = training_scheduler(config.noise, config.objective.prediction_type)
        self.scheduler.alphas_cumprod = self.scheduler.alphas_cumprod.to(self.device)

    def __call__(self, images: torch.Tensor) -> float:
        """Takes one step on (N, 3, H, W) images in [-1, 1]; the seconds that the two passes took."""
        start = time.perf_counter()
        self.loss(images).backward()
        passes = time.perf_counter() - start
        self.update()
        return passes

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        """The loss of one batch."""
        shape = sample_shape(self.config.model, *images.shape[-2:])
        draw = sample_batch(0, 0, len(images), len(images), 1000, shape, True, self.device)
        with self._precision():
            return denoising_loss(
                self.network,
                self.scheduler,
                self.config.model,
                images,
                draw.timesteps,
                draw.noise,
                self.config.objective.min_snr_gamma,
            )

    def update(self) -> None:
        """Clips, steps and averages."""
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), WIDEST_GRADIENT)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.fused:
            self.average.update(self.network)
        else:
            self.average.step(self.network.parameters())

    def _precision(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else contextlib.nullcontext()
