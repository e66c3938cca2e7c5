"""Complete half-seen faces with diffusion."""

from .pipeline import HalfFaceInpaintPipeline, HalfFaceOutput

__version__ = "0.1.0"
__all__ = ["HalfFaceInpaintPipeline", "HalfFaceOutput", "__version__"]
