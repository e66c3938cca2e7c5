"""Complete half-seen faces with diffusion."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .remote_code.pipeline import HalfFaceInpaintPipeline, HalfFaceOutput
    from .remote_code.prior_pipeline import FacePriorOutput, FacePriorPipeline
    from .remote_code.report_network import ReportNetwork
    from .remote_code.respaced_ddpm import RespacedDDPMScheduler

__version__ = "0.1.0"
__all__ = [
    "FacePriorOutput",
    "FacePriorPipeline",
    "HalfFaceInpaintPipeline",
    "HalfFaceOutput",
    "ReportNetwork",
    "RespacedDDPMScheduler",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Imports the classes when one is first used: diffusers takes seconds, which `halfface --help` does not need."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # All of them: a saved model may name any class.
    for module in ("pipeline", "prior_pipeline", "report_network", "respaced_ddpm"):
        found = vars(importlib.import_module(f".remote_code.{module}", __name__))
        globals().update({each: found[each] for each in __all__ if each in found})
    return globals()[name]
