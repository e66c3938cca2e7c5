"""The denoising network, built from its configuration."""

import torch
from diffusers import UNet2DModel
from torch.utils.flop_counter import FlopCounterMode

from .config import ModelConfig
from .halves import predict_hidden, size_multiple, turned_size

IMAGE_CHANNELS = 3


def build_network(model: ModelConfig, height: int, width: int) -> UNet2DModel:
    """A `UNet2DModel` from noisy hidden half and known half to a prediction of the hidden half.

    Args:
        model: Widths, blocks and attention.
        height: Height of the whole image in pixels.
        width: Width of the whole image in pixels.

    Returns:
        An untrained network with random weights from torch's global generator.

    Raises:
        ValueError: If the side across the cut is odd.
    """
    rows, columns = turned_size(height, width, model.hidden_half)
    multiple = size_multiple(model.block_out_channels)
    attended = [level in model.attention_levels for level in range(len(model.block_out_channels))]
    return UNet2DModel(
        sample_size=(rows + -rows % multiple, columns + -columns % multiple),
        in_channels=2 * IMAGE_CHANNELS,
        out_channels=IMAGE_CHANNELS,
        block_out_channels=model.block_out_channels,
        layers_per_block=model.layers_per_block,
        down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in attended),
        up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attended)),
        add_attention=model.mid_attention,
        attention_head_dim=model.attention_head_dim,
        norm_num_groups=model.norm_num_groups,
        dropout=model.dropout,
    )


def num_parameters(network: torch.nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def training_cost(model: ModelConfig, height: int, width: int) -> tuple[int, int, int]:
    """What one image costs, found by a forward pass that computes nothing (the meta device).

    Args:
        model: Widths, blocks and attention.
        height: Height of the whole image in pixels.
        width: Width of the whole image in pixels.

    Returns:
        (parameters, floating-point operations of a forward pass, bytes kept for the backward pass in float32).
    """
    with torch.device("meta"):
        network = build_network(model, height, width)
        half = torch.zeros(1, IMAGE_CHANNELS, *turned_size(height, width, model.hidden_half))
        timestep = torch.zeros(1, dtype=torch.long)
    weights = {id(parameter) for parameter in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in weights:
            kept[id(tensor)] = tensor
        return tensor

    multiple = size_multiple(model.block_out_channels)
    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
        prediction = predict_hidden(network, half, half, timestep, model.known_layout, multiple)
    assert prediction.shape == half.shape
    activations = sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
    return num_parameters(network), counter.get_total_flops(), activations
