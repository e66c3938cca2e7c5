"""Where faces lie in the images of a source, which a model keeps so that photos can be cut to the same frame."""

from pathlib import Path
from typing import Any

from ..config.schema import DataConfig
from .procedural.canvas import EYE_ROW
from .procedural.renderer import EYE_X, IRIS_ROW

DRAWN = "procedural"
"""`trained_on` of models of drawn faces."""


def training_frame(data: DataConfig) -> dict[str, Any]:
    """What a `HalfFaceInpaintPipeline` keeps of its training data: `eyes` (None for CelebA's) and `trained_on`."""
    eyes, path = data.eyes, data.path or ""
    if eyes is None and data.source == DRAWN:
        aside = EYE_X * data.height / data.width
        eyes = (0.5 - aside, EYE_ROW + IRIS_ROW, 0.5 + aside, EYE_ROW + IRIS_ROW)
    name = {"imagefolder": Path(path).name, "hub": path}.get(data.source, data.source)
    return {"eyes": eyes, "trained_on": name}
