"""The help of every command: readable in 80 columns, with an example that the parser takes."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from halfface_pipeline import __version__
from halfface_pipeline.cli.main import command_line


def parsers(parser):
    """A parser and those of all its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from parsers(command)


ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = [parser.prog for parser in parsers(command_line())]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_docs_parse(page):
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), flags=re.DOTALL)
    for line in re.findall(r"^(halfface .*)$", "\n".join(blocks).replace("\\\n", " "), flags=re.MULTILINE):
        command_line().parse_args([word for word in shlex.split(line, comments=True)[1:] if word != "..."])


@pytest.mark.parametrize(
    ("line", "usage", "message"),
    [
        ("complete a.jpg --model m --out o --sede 3", "usage: halfface complete", "did you mean --seed?"),
        ("complete a.jpg --modle m --out o", "usage: halfface complete", "did you mean --model?"),
        ("experiment samplers --ouf o", "usage: halfface experiment samplers", "did you mean --out?"),
        ("complet a.jpg", "usage: halfface", "did you mean complete?"),
        ("experiment sampler", "usage: halfface experiment", "did you mean samplers?"),
        ("experiment variance --model m --out o --matching none", "usage: halfface experiment variance", "log_snr"),
        *(
            (f"{command} --seed {seed}", f"usage: halfface {command.split()[0]}", f"seed is {seed}; it must be")
            for command in (
                "complete a.jpg --model m --out o",
                "evaluate --model m --out o",
                "faces 1 --out o",
                "experiment schedule --out o",
            )
            for seed in (-1, 2**64, "x")
        ),
    ],
)
def test_a_mistyped_line_shows_usage_and_a_hint(capsys, line, usage, message):
    with pytest.raises(SystemExit) as end:
        command_line().parse_args(line.split())
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.startswith(usage) and message in error.splitlines()[-1]


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        command_line().parse_args(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out == f"halfface {__version__}\n"
