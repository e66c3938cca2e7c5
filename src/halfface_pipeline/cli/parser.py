"""The argument parser of the commands; it imports nothing that takes time."""

import argparse
import difflib
import sys
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser whose help ends in an example and whose errors suggest the option or command that was meant.

    Args:
        **kwargs: Passed to `ArgumentParser`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(formatter_class=_ExampleFormatter, **kwargs)
        self.arguments: list[str] = []

    def describe(self, description: str, example: str) -> None:
        """Sets what the help begins with, and the command line to try that it ends in."""
        self.description, self.epilog = description, f"example:\n  {example}"

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Reports unknown options with the usage of the command they were given to, not of the program."""
        self.arguments = sys.argv[1:] if args is None else list(args)
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Adds a suggestion for a mistyped option, which argparse may report as a missing one."""
        names = [name for name in self._option_string_actions if name.startswith("--")]
        names += [choice for action in self._actions for choice in action.choices or ()]
        given = [word.partition("=")[0] for word in self.arguments]
        abbreviated = [name[:end] for name in names if name.startswith("--") for end in range(3, len(name))]
        unknown = [word for word in given if word not in (*names, *abbreviated)]
        near = [match for word in unknown for match in difflib.get_close_matches(word, names, 1, cutoff=0.7)]
        super().error(message + (f"; did you mean {near[0]}?" if near else ""))


class _ExampleFormatter(argparse.HelpFormatter):
    """Wraps the description and leaves the example as it is written."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("example:") else super()._fill_text(text, width, indent)
