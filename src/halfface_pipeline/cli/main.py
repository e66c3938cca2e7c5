"""The `halfface` command."""

import sys
from collections.abc import Sequence

from diffusers.utils import logging as diffusers_logging

from .. import __version__
from .align import add_align
from .app import add_app
from .complete import add_complete
from .evaluate import add_evaluate
from .experiment import add_experiments
from .export import add_export
from .faces import add_faces
from .features import add_features
from .options import Parser
from .push import add_push
from .redraw import add_redraw


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: Command-line arguments; None for those of the process.

    Returns:
        The exit status: 0, 2 after an error, which is reported in one line, or 130 after Ctrl-C.
    """
    options = command_line().parse_args(arguments)
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


def command_line() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="halfface",
        description="Complete half-seen faces with diffusion. `halfface COMMAND --help` describes a command.",
        example="halfface complete me.jpg --model runs/demo -n 8 --out completed",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    adders = (
        add_complete,
        add_redraw,
        add_faces,
        add_align,
        add_evaluate,
        add_features,
        add_experiments,
        add_push,
        add_app,
        add_export,
    )
    for add in adders:
        add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
