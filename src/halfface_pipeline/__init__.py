"""Complete half-seen faces with diffusion."""

from .pipeline import HalfFaceInpaintPipeline, HalfFaceOutput
from .report_network import ReportNetwork
from .respaced_scheduler import RespacedDDPMScheduler

__version__ = "0.1.0"
__all__ = ["HalfFaceInpaintPipeline", "HalfFaceOutput", "ReportNetwork", "RespacedDDPMScheduler", "__version__"]
