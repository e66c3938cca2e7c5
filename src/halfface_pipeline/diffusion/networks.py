"""The denoising network, built from its configuration."""

import functools

import torch
from diffusers import ModelMixin, UNet2DModel
from torch.utils.flop_counter import FlopCounterMode

from ..config.schema import WHOLE, ModelConfig
from ..remote_code.halves import canonical_size, level_multiple, predict, size_multiple
from ..remote_code.report_network import ReportNetwork


def sample_shape(model: ModelConfig, height: int, width: int, channels: int = 3) -> tuple[int, int, int]:
    """Channels, height and width of what the network draws: a hidden half in the turned frame, or a whole image."""
    whole = model.hidden_half in WHOLE
    return (channels, *((height, width) if whole else canonical_size(height, width, model.hidden_half)))


def input_channels(model: ModelConfig, channels: int = 3) -> int:
    """Channels of the network's input: what is drawn, with the known half or the mask behind it if there is one."""
    return {"all": channels, "any": channels + 1}.get(model.hidden_half, 2 * channels)


def build_network(
    model: ModelConfig, height: int, width: int, channels: int = 3, num_train_timesteps: int = 1000
) -> ModelMixin:
    """A network from a noisy half and the known one, or a whole image, to a prediction of what is hidden.

    Args:
        model: Family, widths, blocks and attention.
        height: Height of the whole image in pixels.
        width: Width of the whole image in pixels.
        channels: Channels of the image.
        num_train_timesteps: T, which the report's network divides the timestep by.

    Returns:
        An untrained `UNet2DModel` or `ReportNetwork` with random weights from torch's global generator.

    Raises:
        ValueError: If the side across the cut is odd, or the image is too small or, without a cut, not a multiple of
            what the network halves.
    """
    _, rows, columns = sample_shape(model, height, width, channels)
    levels = len(model.block_out_channels)
    multiple = level_multiple(levels, model.family == "report" and ReportNetwork.halves_every_level)
    if model.hidden_half == "all" and (height % multiple or width % multiple):
        raise ValueError(
            f"data.height and data.width are {height} and {width}; with model.hidden_half all, both must be multiples "
            f"of {multiple}, by {levels} levels in model.block_out_channels"
        )
    if model.family == "report" and max(rows, columns) <= multiple:
        raise ValueError(
            f"data.height and data.width are {height} and {width}; {levels} levels in model.block_out_channels leave "
            f"one position in the bottleneck, and batch normalization needs more: drawn is {rows}x{columns}, one side "
            f"must be above {multiple}"
        )
    size = (rows + -rows % multiple, columns + -columns % multiple)
    if model.family == "report":
        return ReportNetwork(
            sample_size=size,
            in_channels=input_channels(model, channels),
            out_channels=channels,
            block_out_channels=model.block_out_channels,
            conv_block=model.conv_block,
            time_embedding=model.time_embedding,
            num_raa_blocks=model.num_raa_blocks,
            attention_levels=model.attention_levels,
            num_train_timesteps=num_train_timesteps,
        )
    attended = [level in model.attention_levels for level in range(levels)]
    return UNet2DModel(
        sample_size=size,
        in_channels=input_channels(model, channels),
        out_channels=channels,
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


@functools.cache
def training_cost(model: ModelConfig, height: int, width: int, channels: int = 3) -> tuple[int, int, int]:
    """What one image costs, found by a forward pass that computes nothing (the meta device).

    Args:
        model: Family, widths, blocks and attention.
        height: Height of the whole image in pixels.
        width: Width of the whole image in pixels.
        channels: Channels of the image.

    Returns:
        (parameters, floating-point operations of a forward pass, bytes kept for the backward pass in float32).
    """
    with torch.device("meta"):
        network = build_network(model, height, width, channels)
        drawn = sample_shape(model, height, width, channels)
        given = torch.zeros(1, input_channels(model, channels), *drawn[1:])
        timestep = torch.zeros(1, dtype=torch.long)
    noisy, known = (given, None) if model.hidden_half in WHOLE else given.chunk(2, dim=1)
    weights = {id(parameter) for parameter in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in weights:
            kept[id(tensor)] = tensor
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
        prediction = predict(network, noisy, known, timestep, model.known_layout, size_multiple(network))
    assert prediction.shape[1:] == drawn
    activations = sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
    return num_parameters(network), counter.get_total_flops(), activations
