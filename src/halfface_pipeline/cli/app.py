"""`halfface app`: the words of its command line."""

import argparse
import importlib.util
import socket
from typing import Any

from ..app.kept import nothing_kept
from ..hub.space import export_space
from ..inference.complete import model_name
from ..inference.load import load_pipeline
from ..inference.speed import prepare_for_sampling
from .options import add_speed, output_folder


def add_app(commands: Any) -> None:
    """Adds the command `app`.

    Args:
        commands: The sub-parsers of `halfface`.
    """
    parser = commands.add_parser(
        "app",
        help="show a page in the browser that completes photos",
        description="Show a page in the browser where a photo goes in and completions come out; needs the extra app.",
        example="halfface app --model runs/demo --port 7860",
    )
    parser.add_argument("--model", required=True, metavar="RUN_OR_ID", help="run folder or Hub id")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1: this machine)")
    parser.add_argument("--port", type=int, help="port to listen at (default: the first free one from 7860)")
    parser.add_argument(
        "--max-upload", type=float, default=20.0, metavar="MB", help="largest upload in megabytes (default 20)"
    )
    add_speed(parser)
    parser.add_argument(
        "--export-space", metavar="DIR", help="show nothing; write a folder that is a Space of the Hub with this page"
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
    name = model_name(options.model)
    if options.export_space is not None:
        out = output_folder(options.export_space)
        export_space(load_pipeline(options.model), name, options.model, out, options.max_upload)
        print(out)
        return
    pipe = prepare_for_sampling(load_pipeline(options.model), options.speed)
    with nothing_kept() as kept:
        from ..app.server import serve  # imports gradio

        serve(pipe, name, kept, options.host, options.port, options.max_upload)


def _check_host(host: str) -> None:
    """Raises where nothing can listen; gradio would try a hundred ports there, for minutes."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as free:
            free.bind(address)
    except OSError as error:
        raise ValueError(f"--host is {host!r}; it must be an address of this machine: {error}") from None
