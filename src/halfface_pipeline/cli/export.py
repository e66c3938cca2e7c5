"""`halfface export`."""

import argparse
import json
from pathlib import Path
from typing import get_args

from ..diffusion.samplers import FEW_STEPS
from ..export.onnx_network import Weights, check_packages, export_network
from ..export.page import export_page, page_model
from ..export.sampling_plan import sampling_plan
from ..inference.complete import model_name
from ..inference.load import load_pipeline
from ..run_folder.files import atomic_write, atomic_write_text
from .options import output_folder
from .parser import Parser


def add_arguments(parser: Parser) -> None:
    """Describes the command `export`."""
    parser.describe(
        "Write a model as ONNX with the sampler's coefficients beside it, or as a folder of plain files "
        "that completes photos in the visitor's browser, on any host of files; needs the extra export.",
        example="halfface export runs/demo --page page",
    )
    parser.add_argument("run", metavar="RUN_OR_ID", help="run folder, packaged model (photo, drawn) or Hub id")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--onnx", metavar="FILE", help="write the network to this .onnx file, and a .json beside it")
    what.add_argument("--page", metavar="DIR", help="write the page to this folder")
    parser.add_argument(
        "--weights",
        choices=get_args(Weights),
        help="how large tensors are stored (default float32 for --onnx, float16 for --page)",
    )
    parser.add_argument("--steps", type=int, default=FEW_STEPS, help=f"denoising steps (default {FEW_STEPS})")
    parser.add_argument(
        "--onnxruntime-web",
        metavar="PATH",
        help="archive or folder of that npm package, for --page (default: downloaded once by npm)",
    )
    parser.set_defaults(command=_export)


def _export(options: argparse.Namespace) -> None:
    check_packages()
    if options.onnx is not None and Path(options.onnx).suffix != ".onnx":
        raise ValueError(f"--onnx is {options.onnx!r}; it must be a file that ends in .onnx")
    folder = output_folder(options.page if options.page is not None else str(Path(options.onnx).parent))
    pipe, name = load_pipeline(options.run), model_name(options.run)
    if options.page is not None:
        model = export_page(
            pipe, name, folder, options.weights or "float16", options.steps, runtime=options.onnxruntime_web
        )
        wasm, webgpu = (model["runtime"][backend]["download_bytes"] / 1e6 for backend in ("wasm", "webgpu"))
        print(f"{folder}: a visitor loads {wasm:.1f} MB with WebAssembly, {webgpu:.1f} MB with WebGPU")
        return
    plan = sampling_plan(pipe, options.steps)
    weights: Weights = options.weights or "float32"
    network, error = export_network(pipe, weights)
    folder.mkdir(parents=True, exist_ok=True)
    file = Path(options.onnx)
    with atomic_write(file) as partial:
        partial.write_bytes(network)
    model = page_model(pipe, name, plan, network) | {"weights": weights, "relative_error": error}
    atomic_write_text(file.with_suffix(".json"), json.dumps(model, indent=1) + "\n")
    print(f"{file}: {len(network) / 1e6:.1f} MB, differs from torch by {error:.1g} of its prediction")
    print(file.with_suffix(".json"))
