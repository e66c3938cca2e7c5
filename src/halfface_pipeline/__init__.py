"""Complete half-seen faces with diffusion."""

from .pipeline import HalfFaceInpaintPipeline, HalfFaceOutput
from .report_network import ReportNetwork

__version__ = "0.1.0"
__all__ = ["HalfFaceInpaintPipeline", "HalfFaceOutput", "ReportNetwork", "__version__"]
