"""The model section of the configuration: which network, and what it is shown."""

from dataclasses import dataclass, fields
from typing import Literal

HiddenHalf = Literal["bottom", "top", "left", "right", "all"]
KnownLayout = Literal["stacked", "mirrored"]

FAMILY_SETTINGS = {
    "unet2d": ("layers_per_block", "mid_attention", "attention_head_dim", "norm_num_groups", "dropout"),
    "report": ("conv_block", "time_embedding", "num_raa_blocks"),
}
"""Settings that one family of networks uses and the other does not."""


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raises ValueError that names the field, its value and what is allowed, unless the condition holds."""
    if not condition:
        raise ValueError(f"{name} is {value!r}; it must be {allowed}")


@dataclass(frozen=True)
class ModelConfig:
    """The network and what it is shown.

    Args:
        family: `unet2d` is diffusers' `UNet2DModel`, `report` the report's own network (`ReportNetwork`).
        hidden_half: The half the model draws; `all` draws whole images and is shown nothing.
        known_layout: `stacked` lays the known half over the hidden one as it is (the report), `mirrored` flips it so
            that the two rows at the seam share a position.
        block_out_channels: Channels of each resolution, finest first.
        attention_levels: Resolutions with self-attention, 0 the finest; the bottleneck is apart.
        layers_per_block: ResNet blocks a resolution (`unet2d`).
        mid_attention: Self-attention in the middle block, at the lowest resolution (`unet2d`).
        attention_head_dim: Channels of one attention head; each attended width must be a multiple of it (`unet2d`).
        norm_num_groups: Groups of the group normalization; every width must be a multiple of it (`unet2d`).
        dropout: Dropout probability inside the ResNet blocks (`unet2d`).
        conv_block: `double` or `triple` convolutions, or two `resnet` blocks, at each level (`report`).
        time_embedding: A map concatenated to the `input`, or a vector added in the `bottleneck` (`report`).
        num_raa_blocks: Residual and attention blocks in the bottleneck; 0 puts one `conv_block` there (`report`).
    """

    family: Literal["unet2d", "report"] = "unet2d"
    hidden_half: HiddenHalf = "bottom"
    known_layout: KnownLayout = "mirrored"
    block_out_channels: tuple[int, ...] = (64, 128, 256, 384)
    attention_levels: tuple[int, ...] = ()
    layers_per_block: int = 2
    mid_attention: bool = True
    attention_head_dim: int = 64
    norm_num_groups: int = 32
    dropout: float = 0.0
    conv_block: Literal["double", "triple", "resnet"] = "resnet"
    time_embedding: Literal["input", "bottleneck"] = "bottleneck"
    num_raa_blocks: int = 3

    def __post_init__(self) -> None:
        widths, levels = self.block_out_channels, len(self.block_out_channels)
        require(levels >= 2 and min(widths) >= 1, "model.block_out_channels", widths, "two or more positive widths")
        for level in self.attention_levels:
            require(0 <= level < levels, "model.attention_levels", self.attention_levels, f"from 0 to {levels - 1}")
        defaults = {setting.name: setting.default for setting in fields(self)}
        unused = [name for family, names in FAMILY_SETTINGS.items() if family != self.family for name in names]
        for name in unused:
            allowed = f"left at {defaults[name]!r}: model.family {self.family} does not use it"
            require(getattr(self, name) == defaults[name], f"model.{name}", getattr(self, name), allowed)
        if self.hidden_half == "all":
            allowed = "left at 'mirrored': with model.hidden_half all nothing is known"
            require(self.known_layout == "mirrored", "model.known_layout", self.known_layout, allowed)
        require(self.num_raa_blocks >= 0, "model.num_raa_blocks", self.num_raa_blocks, "0 or more")
        if self.family == "unet2d":
            self._check_unet2d()

    def _check_unet2d(self) -> None:
        widths = self.block_out_channels
        require(self.layers_per_block >= 1, "model.layers_per_block", self.layers_per_block, "at least 1")
        require(self.norm_num_groups >= 1, "model.norm_num_groups", self.norm_num_groups, "at least 1")
        bad = [width for width in widths if width % self.norm_num_groups]
        require(not bad, "model.norm_num_groups", self.norm_num_groups, f"a divisor of every width in {widths}")
        require(self.attention_head_dim >= 1, "model.attention_head_dim", self.attention_head_dim, "at least 1")
        attended = {widths[level] for level in self.attention_levels} | ({widths[-1]} if self.mid_attention else set())
        bad = [width for width in attended if width % self.attention_head_dim]
        require(not bad, "model.attention_head_dim", self.attention_head_dim, f"a divisor of {sorted(attended)}")
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "from 0 up to but not 1")
