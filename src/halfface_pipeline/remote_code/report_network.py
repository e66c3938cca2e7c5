"""The report's own U-Net and its predecessors, as a diffusers model.

What the report's text says: blocks of two or three convolutions with batch normalization and leaky ReLU, or two ResNet
blocks; stride-2 convolutions down; an MLP of t/T whose output is concatenated to the input or added in the bottleneck;
RAA blocks (residual and attention, Song et al. 2024) in the bottleneck.

What it leaves open and what was chosen, so that its four parameter counts (4.50M, 24M, 31M, 37M) come out within 10 %:

- Every encoder level ends in a stride-2 3x3 convolution and every decoder level begins with a transposed 2x2 one, both
  without normalization, so that L levels halve the input L times. The skip is concatenated.
- A decoder block gives the width of the next finer level; the last keeps the finest, for a final 3x3 convolution.
- Without RAA blocks the bottleneck is one block of the family.
- The MLP has two layers with a leaky ReLU between; the hidden one is 32 wide for a map, which has one channel and the
  padded input's size, and as wide as the bottleneck for a vector.
- Self-attention: layer normalization over channels, 4 heads, a skip, no feed-forward part; after the block of a level.
- Leaky ReLU has torch's slope, 0.01; weights start as torch's layers do.

Batch normalization takes its statistics from the images of one forward pass, so that a step depends a little on how
many processes and accumulated parts share its batch. A moving average of the weights is sampled with the statistics of
the trained weights, which fit it less well; the report's configurations keep no average.
"""

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import nn

CONV_BLOCKS = ("double", "triple", "resnet")
TIME_EMBEDDINGS = ("input", "bottleneck")
NUM_HEADS = 4
MAP_HIDDEN_WIDTH = 32


class ResNetBlock(nn.Module):
    """LeakyReLU(f(x) + skip(x)), f two convolutions with batch normalization (He et al. 2016); (N, C, H, W).

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output; where they differ, a 1x1 convolution lies on the skip.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(*_convolutions(channels_in, channels_out, 2)[:-1])
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's output, (N, channels_out, H, W)."""
        return F.leaky_relu(self.inside(x) + self.skip(x))


class SelfAttention(nn.Module):
    """Multi-head self-attention over all positions with a skip (Vaswani et al. 2017), (N, C, H, W) to the same.

    Args:
        channels: C, a multiple of the number of heads.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x plus what each position gathers from the others."""
        qkv = self.to_qkv(self.norm(x.flatten(2).mT))
        # (N, HW, 3C) -> 3 x (N, heads, HW, C / heads)
        q, k, v = qkv.unflatten(-1, (3, NUM_HEADS, -1)).permute(2, 0, 3, 1, 4)
        gathered = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.to_out(gathered).mT.unflatten(-1, x.shape[-2:])


class ReportNetwork(ModelMixin, ConfigMixin):
    """The report's U-Net, called as a `UNet2DModel` is.

    This file travels with every model that holds one and stands alone: diffusers brings it along without siblings.

    Args:
        sample_size: Height and width of the input; fixed only where the time embedding is a map of that size.
        in_channels: Channels of the input: noisy and known image, or the noisy one alone.
        out_channels: Channels of the prediction.
        block_out_channels: Width of each level, finest first; each level halves the input.
        conv_block: `double`, `triple` or `resnet`.
        time_embedding: `input` (a map concatenated to the input) or `bottleneck` (a vector added there).
        num_raa_blocks: ResNet and self-attention blocks in the bottleneck; 0 for one block of the family.
        attention_levels: Levels with self-attention in encoder and decoder, 0 the finest.
        num_train_timesteps: T of the embedded t/T.

    Raises:
        ValueError: If a name is unknown, or an attended width is no multiple of the number of heads.
    """

    halves_every_level = True

    @register_to_config
    def __init__(
        self,
        sample_size: tuple[int, int] = (64, 96),
        in_channels: int = 6,
        out_channels: int = 3,
        block_out_channels: tuple[int, ...] = (64, 128, 256, 512),
        conv_block: str = "resnet",
        time_embedding: str = "bottleneck",
        num_raa_blocks: int = 3,
        attention_levels: tuple[int, ...] = (),
        num_train_timesteps: int = 1000,
    ) -> None:
        super().__init__()
        for name, value, allowed in (
            ("conv_block", conv_block, CONV_BLOCKS),
            ("time_embedding", time_embedding, TIME_EMBEDDINGS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
        widths, deepest = block_out_channels, block_out_channels[-1]
        before = (widths[0], *widths[:-1])
        attended = {width for level in attention_levels for width in (widths[level], before[level])}
        bad = [width for width in attended | ({deepest} if num_raa_blocks else set()) if width % NUM_HEADS]
        if bad:
            raise ValueError(
                f"block_out_channels is {tuple(widths)}; every width with attention must be a multiple of {NUM_HEADS}"
            )

        def level_block(level: int, channels_in: int, channels_out: int) -> nn.Module:
            block = _block(conv_block, channels_in, channels_out)
            return nn.Sequential(block, SelfAttention(channels_out)) if level in attention_levels else block

        if time_embedding == "input":
            in_channels, hidden, embedded = in_channels + 1, MAP_HIDDEN_WIDTH, sample_size[0] * sample_size[1]
        else:
            hidden, embedded = deepest, deepest
        self.time_mlp = nn.Sequential(nn.Linear(1, hidden), nn.LeakyReLU(), nn.Linear(hidden, embedded))
        entering = (in_channels, *widths[:-1])
        self.encoder = nn.ModuleList(level_block(i, entering[i], width) for i, width in enumerate(widths))
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for width in widths)
        raa = [
            layer for _ in range(num_raa_blocks) for layer in (ResNetBlock(deepest, deepest), SelfAttention(deepest))
        ]
        self.bottleneck = nn.Sequential(*raa) if raa else _block(conv_block, deepest, deepest)
        self.up = nn.ModuleList(nn.ConvTranspose2d(width, width, 2, stride=2) for width in widths)
        self.decoder = nn.ModuleList(level_block(i, 2 * width, before[i]) for i, width in enumerate(widths))
        self.out = nn.Conv2d(widths[0], out_channels, 3, padding=1)

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor | float, return_dict: bool = True
    ) -> UNet2DOutput | tuple[torch.Tensor]:
        """Predicts what the objective asks for.

        Args:
            sample: Noisy image, with the known one behind it over channels, (N, in_channels, H, W).
            timestep: Noise level on the trained scale from 0 to T-1, whole or fractional, scalar or (N,); 0 is the
                paper's t = 1, so that the MLP is given (timestep + 1) / T.
            return_dict: Give a `UNet2DOutput` and not a tuple.

        Returns:
            The prediction, (N, out_channels, H, W).

        Raises:
            ValueError: If a side of the sample does not fit.
        """
        size, multiple = tuple(sample.shape[-2:]), 2 ** len(self.config.block_out_channels)
        if any(side % multiple for side in size):
            raise ValueError(f"sample is {size[0]}x{size[1]}; both sides must be multiples of {multiple}")
        t = torch.as_tensor(timestep, device=sample.device).reshape(-1, 1).expand(sample.shape[0], 1)
        embedded = self.time_mlp(((t + 1) / self.config.num_train_timesteps).to(sample.dtype))
        x, skips = sample, []
        if self.config.time_embedding == "input":
            if size != tuple(self.config.sample_size):
                raise ValueError(f"sample is {size[0]}x{size[1]}; it must be {tuple(self.config.sample_size)}")
            x = torch.cat([x, embedded.view(-1, 1, *size).to(x.dtype)], dim=1)
        for block, down in zip(self.encoder, self.down, strict=True):
            skips.append(block(x))
            x = down(skips[-1])
        if self.config.time_embedding == "bottleneck":
            x = x + embedded[:, :, None, None]
        x = self.bottleneck(x)
        for up, block in zip(reversed(self.up), reversed(self.decoder), strict=True):
            x = block(torch.cat([up(x), skips.pop()], dim=1))
        prediction = self.out(x)
        return UNet2DOutput(sample=prediction) if return_dict else (prediction,)


def _convolutions(channels_in: int, channels_out: int, number: int) -> list[nn.Module]:
    """3x3 convolutions, each followed by batch normalization and leaky ReLU."""
    layers: list[nn.Module] = []
    for place in range(number):
        channels = channels_out if place else channels_in
        layers += [nn.Conv2d(channels, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out), nn.LeakyReLU()]
    return layers


def _block(conv_block: str, channels_in: int, channels_out: int) -> nn.Module:
    """One block of the family, (N, channels_in, H, W) to (N, channels_out, H, W)."""
    if conv_block == "resnet":
        return nn.Sequential(ResNetBlock(channels_in, channels_out), ResNetBlock(channels_out, channels_out))
    return nn.Sequential(*_convolutions(channels_in, channels_out, 2 if conv_block == "double" else 3))
