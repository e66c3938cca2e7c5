"""Metadata of generated PNGs: that half of the picture is invented, and how to reproduce it."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import PIL.Image
import torch
from PIL.PngImagePlugin import PngInfo

AI_GENERATED = "AI-generated, hidden half invented"
PART_GENERATED = "AI-generated, hidden part invented"
WHOLE_GENERATED = "AI-generated"
SOFTWARE = {"Software": "halfface_pipeline"}
SOURCE_TYPES = {
    AI_GENERATED: "compositeWithTrainedAlgorithmicMedia",
    PART_GENERATED: "compositeWithTrainedAlgorithmicMedia",
    WHOLE_GENERATED: "trainedAlgorithmicMedia",
}
"""Terms of the IPTC's digital source type vocabulary, which image viewers read."""
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" \
Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/{}"/></rdf:RDF></x:xmpmeta>"""
LIMITS = {"steps": (1, 10_000), "seed": (0, 2**63 - 1), "batch": (1, 1024)}
"""Allowed range of each number: the text of a picture is untrusted input."""
NEEDED = ("model", "sampler", "steps", "seed")


def software_mark() -> PngInfo:
    """The text chunk of pictures that nothing in is generated, by which the commands know their own files."""
    text = PngInfo()
    text.add_text(*next(iter(SOFTWARE.items())))
    return text


def png_text(metadata: Mapping[str, Any], comment: str = AI_GENERATED) -> PngInfo:
    """The text chunks of a generated PNG, for Pillow's and matplotlib's `pnginfo`."""
    text = PngInfo()
    for key, value in generated_text(metadata, comment).items():
        (text.add_itxt if key.startswith("XML:") else text.add_text)(key, value)
    return text


def generated_text(metadata: Mapping[str, Any], comment: str = AI_GENERATED) -> dict[str, str]:
    """Every text of a generated PNG by keyword; arguments as in `png_text`."""
    named = {"Comment": comment, **SOFTWARE, **metadata}
    xmp = XMP.format(SOURCE_TYPES[comment])
    return {key: str(value) for key, value in named.items()} | {"XML:com.adobe.xmp": xmp}


def save_png(
    image: PIL.Image.Image,
    file: str | Path | BinaryIO,
    model: str,
    sampler: str,
    steps: int,
    seed: int,
    comment: str = AI_GENERATED,
    compress_level: int = 6,
    **more: Any,
) -> None:
    """Writes a generated picture whose metadata state so, and how to reproduce it.

    Args:
        image: The picture.
        file: Where to write.
        model: Name of the run folder, or Hub id.
        sampler: Its short name.
        steps: Denoising steps.
        seed: Seed of the completion; of a sheet, that of its first one.
        comment: A key of `SOURCE_TYPES`.
        compress_level: From 0 to 9; 1 writes a photo several times faster than 6, a little larger.
        **more: Further metadata: `batch`, the completions computed at once, without which a reproduction can differ
            in the last bit; `weights`, from `fingerprint`.
    """
    metadata = {"model": model, "sampler": sampler, "steps": steps, "seed": seed, **more}
    metadata.setdefault("size", f"{image.height}x{image.width}")
    image.save(file, format="PNG", pnginfo=png_text(metadata, comment), compress_level=compress_level)


def read_png(file: str | Path) -> dict[str, Any]:
    """Reads what `save_png` wrote.

    Args:
        file: A PNG.

    Returns:
        The metadata by keyword; `steps`, `seed` and `batch` as int.

    Raises:
        ValueError: If it is not a picture, or its metadata are missing or out of range.
    """
    found = f"PICTURE is {str(file)!r}"
    try:
        with PIL.Image.open(file) as image:
            image.load()
            text = {key: str(value) for key, value in getattr(image, "text", {}).items()}
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ValueError(f"{found}; it must be a picture that can be read: {error}") from error
    missing = [key for key in NEEDED if key not in text]
    if missing:
        raise ValueError(f"{found}; it must be a PNG of `halfface complete`: {missing[0]} is missing")
    metadata: dict[str, Any] = {key: value for key, value in text.items() if not key.startswith("XML:")}
    for key in LIMITS.keys() & text.keys():
        low, high = LIMITS[key]
        # int() itself refuses more than 4,300 digits; twenty are enough for any allowed number.
        metadata[key] = int(text[key]) if re.fullmatch("[0-9]{1,20}", text[key]) else -1
        if not low <= metadata[key] <= high:
            raise ValueError(f"{found}; its {key} is {text[key][:40]!r}, allowed is {low} to {high}")
    return metadata


def weights_sha256(network: torch.nn.Module) -> str:
    """SHA-256, in hex, of a network's weights: names and values in order."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fingerprint(network: torch.nn.Module) -> str:
    """The first 16 digits of `weights_sha256`, stored in PNGs."""
    return weights_sha256(network)[:16]
