"""What a run would be and cost, without training (`--dry_run`)."""

from ..config.files import to_yaml
from ..config.schema import Config
from ..data.sources import load_source
from ..diffusion.networks import training_cost
from .batches import num_steps

BYTES_PER_PARAMETER = 20
"""Weight, gradient, two moments of AdamW and the EMA, each in float32."""


def describe(config: Config) -> str:
    """Describes a run: the resolved configuration, parameters, steps and memory."""
    parameters, operations, activations = training_cost(
        config.model, config.data.height, config.data.width, config.data.channels
    )
    part = config.training.batch_size // config.training.gradient_accumulation_steps
    memory = (parameters * BYTES_PER_PARAMETER + activations * part) / 2**30
    try:
        images = len(load_source(config.data, "train").names)
        length = f"{images} images, {num_steps(config.training, images)} steps of {config.training.batch_size}"
    except ValueError as error:
        length = f"unknown: {error}"
    return (
        f"{to_yaml(config)}\n"
        f"parameters: {parameters:,} ({parameters / 1e6:.1f}M)\n"
        f"forward pass: {operations / 1e9:.1f} GFLOP per image\n"
        f"training: {length}\n"
        f"memory: about {memory:.1f} GiB in float32 on one process ({part} images at once)"
    )
