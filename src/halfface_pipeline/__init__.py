"""Complete half-seen faces with diffusion."""

from .pipeline import HalfFaceInpaintPipeline, HalfFaceOutput
from .respaced_scheduler import RespacedDDPMScheduler

__version__ = "0.1.0"
__all__ = ["HalfFaceInpaintPipeline", "HalfFaceOutput", "RespacedDDPMScheduler", "__version__"]
