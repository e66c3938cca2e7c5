"""What a generated PNG says about itself."""

from pathlib import Path
from typing import Any

import PIL.Image
from PIL.PngImagePlugin import PngInfo

AI_GENERATED = "AI-generated, hidden half invented"


def save_png(
    image: PIL.Image.Image, file: str | Path, model: str, sampler: str, steps: int, seed: int, **more: Any
) -> None:
    """Writes a generated picture with the text that says what it is and how to draw it again.

    Args:
        image: The picture.
        file: Where to write.
        model: Name of the run folder, or Hub id.
        sampler: Its short name.
        steps: Denoising steps.
        seed: Of the generator whose first draw this is.
        **more: Further facts, by keyword.
    """
    facts = {"Comment": AI_GENERATED, "model": model, "sampler": sampler, "steps": steps, "seed": seed, **more}
    text = PngInfo()
    for key, value in facts.items():
        text.add_text(key, str(value))
    image.save(file, format="PNG", pnginfo=text)
