"""Complete half-seen faces with diffusion."""

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
