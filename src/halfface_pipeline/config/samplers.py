"""The samplers that can be named: one table, from which checks, model cards and choices derive."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

PredictionType = Literal["epsilon", "v_prediction", "sample"]
PREDICTION_TYPES: tuple[str, ...] = get_args(PredictionType)
NOISY = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class SamplerSpec:
    """A scheduler class of diffusers.

    Attributes:
        class_name: Its name in diffusers.
        kwargs: Settings that make it exact at its last step.
        second_order: Whether N steps take 2N - 1 network function evaluations (NFE) instead of N.
        predictions: What a network may predict for it.
    """

    class_name: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    second_order: bool = False
    predictions: tuple[str, ...] = PREDICTION_TYPES

    @property
    def nfe(self) -> str:
        """Network function evaluations of N steps, as a formula."""
        return "2N - 1" if self.second_order else "N"


SAMPLERS: dict[str, SamplerSpec] = {
    "ddpm": SamplerSpec("DDPMScheduler"),
    "ddim": SamplerSpec("DDIMScheduler"),
    "dpm++": SamplerSpec("DPMSolverMultistepScheduler"),
    "dpm++-single": SamplerSpec("DPMSolverSinglestepScheduler", {"lower_order_final": True}),
    "dpm-sde": SamplerSpec("DPMSolverSDEScheduler", second_order=True, predictions=NOISY),
    "unipc": SamplerSpec("UniPCMultistepScheduler"),
    "euler": SamplerSpec("EulerDiscreteScheduler"),
    "euler-a": SamplerSpec("EulerAncestralDiscreteScheduler", predictions=NOISY),
    "heun": SamplerSpec("HeunDiscreteScheduler", second_order=True),
    "kdpm2": SamplerSpec("KDPM2DiscreteScheduler", second_order=True, predictions=NOISY),
    "kdpm2-a": SamplerSpec("KDPM2AncestralDiscreteScheduler", second_order=True, predictions=NOISY),
    "lms": SamplerSpec("LMSDiscreteScheduler"),
}
DISTILLED = "lcm"
"""The name for diffusers' `LCMScheduler`, which samples distilled models and no others."""
