"""The `halfface` command."""

import importlib
import sys
from collections.abc import Collection, Sequence

from .. import __version__
from .parser import Parser

COMMANDS = {
    "complete": "generate the hidden half of faces in photos",
    "redraw": "reproduce completions from the metadata of their PNGs",
    "faces": "render procedural faces",
    "align": "cut the faces of photos to one frame, for training",
    "evaluate": "evaluate a model on held-out halves",
    "features": "train the feature network `faces` of evaluate",
    "experiment": "repeat an experiment of the report",
    "push": "push a run to the Hugging Face Hub",
    "app": "serve a web page that completes photos",
    "export": "write a model as ONNX, or as a static page that runs it in the browser",
}
"""What each command does. Its arguments are in the module of its name, imported, with torch and diffusers, only when
it is called."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: Command-line arguments; None for those of the process.

    Returns:
        The exit status: 0, 2 after an error, which is reported in one line, or 130 after Ctrl-C.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    called = next((word for word in words if not word.startswith("-")), "")
    options = command_line([called]).parse_args(words)
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    try:
        options.command(options)
    except (ValueError, OSError) as error:
        print(f"halfface {options.name}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"halfface {options.name}: stopped", file=sys.stderr)
        return 130
    return 0


def command_line(called: Collection[str] = COMMANDS) -> Parser:
    """The parser of the whole command line, with the arguments of the commands that are called."""
    parser = Parser(prog="halfface")
    parser.describe(
        "Complete half-seen faces with diffusion. `halfface COMMAND --help` describes a command.",
        example="halfface complete me.jpg --model runs/demo -n 8 --out completed",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name in called:
            importlib.import_module(f".{name}", __package__).add_arguments(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
