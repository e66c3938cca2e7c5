"""The help of every command: readable in 80 columns, with an example that the parser takes."""

import argparse
import shlex

import pytest

from halfface_pipeline.cli.main import command_line


def parsers(parser):
    """A parser and those of all its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from parsers(command)


COMMANDS = [parser.prog for parser in parsers(command_line())]


def test_every_command_is_looked_at():
    assert {
        "halfface complete",
        "halfface redraw",
        "halfface push",
        "halfface app",
        "halfface experiment samplers",
    } <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_and_ends_in_an_example_that_works(monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    whole = command_line()
    text = next(parser for parser in parsers(whole) if parser.prog == command).format_help()
    assert max(map(len, text.splitlines())) <= 80
    *_, before, example = text.splitlines()
    assert before == "example:" and example.startswith("  halfface ")
    words = shlex.split(example)[1:]
    assert whole.parse_args(words).command
    assert command == "halfface" or " ".join(["halfface", *words]).startswith(command)
