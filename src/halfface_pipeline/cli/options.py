"""The argument parser of every command: its example stands in the help as one types it."""

import argparse
from typing import Any


class Parser(argparse.ArgumentParser):
    """A parser whose help ends in an example that is not wrapped; those of its commands are of this class too.

    Args:
        *args: Of `ArgumentParser`.
        example: A command line to try.
        **kwargs: Of `ArgumentParser`.
    """

    def __init__(self, *args: Any, example: str | None = None, **kwargs: Any) -> None:
        if example is not None:
            kwargs["epilog"] = f"example:\n  {example}"
        kwargs.setdefault("formatter_class", _ExampleFormatter)
        super().__init__(*args, **kwargs)


class _ExampleFormatter(argparse.HelpFormatter):
    """Wraps what is told, and leaves the example as it is written."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("example:") else super()._fill_text(text, width, indent)
