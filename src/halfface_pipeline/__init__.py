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
MODULES = {
    "FacePriorOutput": "prior_pipeline",
    "FacePriorPipeline": "prior_pipeline",
    "HalfFaceInpaintPipeline": "pipeline",
    "HalfFaceOutput": "pipeline",
    "ReportNetwork": "report_network",
    "RespacedDDPMScheduler": "respaced_ddpm",
}


def __getattr__(name: str) -> Any:
    """Imports a class when it is first used: diffusers takes seconds, which `halfface --help` does not need."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".remote_code.{MODULES[name]}", __name__), name)
