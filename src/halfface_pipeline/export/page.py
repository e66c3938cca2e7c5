"""A static page that completes photos in the visitor's browser: a folder for any host of files."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch

from ..diffusion.halves import KNOWN_HALF
from ..diffusion.samplers import FEW_STEPS
from ..inference.complete import model_metadata
from ..inference.photos import example_faces
from ..inference.png_metadata import generated_text
from ..remote_code.halves import QUARTER_TURNS, from_canonical
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from . import onnxruntime_web
from .onnx_network import INPUTS, OUTPUT, Weights, export_network
from .sampling_plan import sampling_plan

WEB = Path(__file__).with_name("web")
EXAMPLE = "example.png"
CHECK_SEED, CHECK_VALUES = 0, 16
HEADERS = """/*
  Cross-Origin-Opener-Policy: same-origin
  Cross-Origin-Embedder-Policy: require-corp
"""
"""With these headers browsers let WebAssembly use threads; Netlify and Cloudflare Pages read this file."""
README = """---
title: Half faces
emoji: 🎭
colorFrom: yellow
colorTo: gray
sdk: static
app_file: index.html
license: apache-2.0
short_description: Generates the hidden half of a face in your browser
custom_headers:
  cross-origin-embedder-policy: require-corp
  cross-origin-opener-policy: same-origin
---

# Half faces

A static page that runs the model {name} in the visitor's browser: put this folder on any host of files, or try it by
`python -m http.server` in it. No photo leaves the browser.

The hidden half is invented. It shows what could be there, not what is: the model identifies nobody and must not be
used to identify, verify or track people.

Made with halfface_pipeline. The licence above is that of the code; that of the weights is the model's own.
`runtime/` is ONNX Runtime Web {runtime} (MIT).
"""


def export_page(
    pipe: HalfFaceInpaintPipeline,
    name: str,
    out: Path,
    weights: Weights = "float16",
    num_inference_steps: int = FEW_STEPS,
    runtime: str | None = None,
) -> dict[str, Any]:
    """Writes the folder: page, model, sampler and runtime.

    Args:
        pipe: The model.
        name: What it is called on the page and in the pictures.
        out: Where to write; what is there already is kept, except these files.
        weights: How the network's large tensors are stored.
        num_inference_steps: Denoising steps.
        runtime: As in `onnxruntime_web.runtime_files`.

    Returns:
        What model.json holds.

    Raises:
        ValueError: If another page is in the folder, the noise of one completion is shorter than torch's generator
            fills in one way, or the model, the steps or the runtime cannot be used.
    """
    if (out / "index.html").exists() and not (out / "model.json").exists():
        raise ValueError(f"--page is {str(out)!r}; there is another index.html in it: name a new folder")
    if torch.Size(pipe.latent_shape).numel() < CHECK_VALUES:
        raise ValueError(f"a half of {pipe.half_size} is too small for the page; it must have 16 values or more")
    if pipe.latent_shape[0] != 3:
        raise ValueError(f"the model has {pipe.latent_shape[0]} channels; the page needs a model of 3, for RGB")
    plan = sampling_plan(pipe, num_inference_steps)
    network, error = export_network(pipe, weights)
    files = onnxruntime_web.runtime_files(runtime)
    (out / "runtime").mkdir(parents=True, exist_ok=True)
    for file, content in (files | _licences()).items():
        (out / "runtime" / file).write_bytes(content)
    for source in WEB.iterdir():
        (out / source.name).write_bytes(source.read_bytes())
    (out / "network.onnx").write_bytes(network)
    example_faces(pipe.config, 1)[0].save(out / EXAMPLE, optimize=True)
    model = page_model(pipe, name, plan, network) | {"weights": weights, "relative_error": error}
    model["example"] = EXAMPLE
    model["runtime"] = {"version": onnxruntime_web.VERSION}
    for backend, names in onnxruntime_web.FILES.items():
        size = len(network) + len(files[names["binary"]])
        model["runtime"][backend] = {**names, "download_bytes": size}
    (out / "_headers").write_text(HEADERS, encoding="utf-8")
    (out / "README.md").write_text(README.format(name=name, runtime=onnxruntime_web.VERSION), encoding="utf-8")
    (out / "model.json").write_text(json.dumps(model, indent=1) + "\n", encoding="utf-8")
    return model


def page_model(pipe: HalfFaceInpaintPipeline, name: str, plan: dict[str, Any], network: bytes) -> dict[str, Any]:
    """What a program beside the ONNX model has to know of it; model.json of the page.

    Args:
        pipe: The model.
        name: What it is called.
        plan: From `sampling_plan`.
        network: The serialized ONNX model.

    Returns:
        Sizes, halves, the layout of a seed's noise, the plan, the text of PNGs, and a prediction to compare with.
    """
    hidden, (rows, columns) = pipe.config.hidden_half, pipe.half_size
    facts = {"sampler": plan["sampler"], "steps": len(plan["steps"]), "batch": 1, **model_metadata(pipe, name)}
    return {
        "name": name,
        "height": pipe.config.height,
        "width": pipe.config.width,
        "shape": [pipe.latent_shape[0], rows, columns],
        "hidden_half": hidden,
        "known_half": KNOWN_HALF[hidden],
        # The noise of a seed is torch.randn in canonical orientation; so many of these turns bring it to the image's.
        "quarter_turns": -QUARTER_TURNS[hidden] % 4,
        **plan,
        "png_text": generated_text({**facts, "size": f"{pipe.config.height}x{pipe.config.width}"}),
        "check": {"seed": CHECK_SEED, "values": _check_values(pipe, network, plan["steps"][0]["timestep"])},
    }


def _check_values(pipe: HalfFaceInpaintPipeline, network: bytes, timestep: float) -> list[float]:
    """Some values of the prediction for a seed's noise, a grey known half and the first timestep."""
    import onnxruntime

    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    noise = torch.randn(1, *pipe.latent_shape, generator=torch.Generator().manual_seed(CHECK_SEED))
    noisy = from_canonical(noise, pipe.config.hidden_half)
    inputs = (noisy, torch.zeros_like(noisy), torch.tensor([float(timestep)]))
    feed = {name: value.numpy() for name, value in zip(INPUTS, inputs, strict=True)}
    prediction = session.run([OUTPUT], feed)[0].reshape(-1)
    every = len(prediction) // CHECK_VALUES
    return [float(value) for value in prediction[: every * CHECK_VALUES : every]]


def _licences() -> dict[str, bytes]:
    """Licence and notices of ONNX Runtime, whose Python package carries what that of npm lacks."""
    found = importlib.util.find_spec("onnxruntime")
    assert found is not None and found.origin is not None
    folder = Path(found.origin).parent
    return {name: (folder / name).read_bytes() for name in ("LICENSE", "ThirdPartyNotices.txt")}
