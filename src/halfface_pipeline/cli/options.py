"""The argument parser of every command, and the options that several commands share."""

import argparse
import os
from pathlib import Path
from typing import Any

LARGEST_SIDE = 4096
"""Pixels of a side that --size takes at most."""


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


def add_speed(parser: argparse.ArgumentParser) -> None:
    """Adds --speed, which `prepare_for_sampling` takes."""
    parser.add_argument(
        "--speed",
        default="auto",
        metavar="auto|safe",
        help="auto uses bfloat16 where the machine has it; safe leaves the weights as saved (default auto)",
    )


def output_folder(name: str) -> Path:
    """The folder of --out, checked and not yet made."""
    out = Path(name)
    there = next((place for place in (out, *out.absolute().parents) if place.exists()), Path("/"))
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"--out is {name!r}; it must be a folder, and {there} is none that can be written to")
    return out


def crop_box(text: str) -> tuple[int, int, int, int]:
    """LEFT,TOP,RIGHT,BOTTOM as numbers."""
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--crop is {text!r}; it must be LEFT,TOP,RIGHT,BOTTOM in pixels") from None
    return left, top, right, bottom


def size_of(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH as numbers."""
    try:
        height, width = (int(part) for part in text.split("x"))
    except ValueError:
        raise ValueError(f"--size is {text!r}; it must be HEIGHTxWIDTH, for example 112x88") from None
    if max(height, width) > LARGEST_SIDE:
        raise ValueError(f"--size is {text!r}; each side must be at most {LARGEST_SIDE}")
    return height, width
