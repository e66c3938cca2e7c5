"""`halfface app`."""

import argparse
import importlib.util
import socket

from ..app import serve
from ..hub.space import export_space
from ..inference.complete import model_name
from ..inference.load import default_model, load_pipeline, model_terms
from ..inference.speed import prepare_for_sampling
from .options import add_device, add_model, add_speed, model_on_device, output_folder
from .parser import Parser


def add_arguments(parser: Parser) -> None:
    """Describes the command `app`."""
    parser.describe(
        "Serve a web page that completes photos; needs the extra `app`.",
        example="halfface app --model runs/demo --port 7860",
    )
    add_model(parser, required=False)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: local only)")
    parser.add_argument("--port", type=int, help="port to listen on (default: the first free one from 7860)")
    parser.add_argument(
        "--max-upload", type=float, default=20.0, metavar="MB", help="largest upload in megabytes (default 20)"
    )
    add_speed(parser)
    add_device(parser)
    parser.add_argument(
        "--export-space", metavar="DIR", help="serve nothing; write a folder to upload as a Space of the Hub"
    )
    parser.set_defaults(command=_app)


def _app(options: argparse.Namespace) -> None:
    if not options.max_upload > 0:
        raise ValueError(f"--max-upload is {options.max_upload:g}; it must be more than 0 megabytes")
    if options.port is not None and not 1 <= options.port <= 65535:
        raise ValueError(f"--port is {options.port}; it must be from 1 to 65535")
    _check_host(options.host)
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("gradio is not installed; the page needs it: pip install 'halfface-pipeline[app]'")
    options.model = options.model or default_model()
    name = model_name(options.model)
    if options.export_space is not None:
        out = output_folder(options.export_space)
        export_space(load_pipeline(options.model), name, options.model, out, options.max_upload)
        print(out)
        return
    pipe = prepare_for_sampling(model_on_device(options), options.speed)
    serve(pipe, name, options.host, options.port, options.max_upload, model_terms(options.model))


def _check_host(host: str) -> None:
    """Raises if nothing can listen on an address, for which gradio would wait without an end."""
    address = host.strip("[]")
    try:
        socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET).close()
    except OSError as error:
        raise ValueError(f"--host is {host!r}; it must be an address of this machine: {error}") from None
