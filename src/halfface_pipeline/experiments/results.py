"""What an experiment leaves behind: a picture, a table as CSV and Markdown, and a JSON to repeat it by."""

import csv
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import PIL.Image
from matplotlib.figure import Figure

from ..inference.complete import model_name
from ..inference.png_metadata import png_text
from ..run_folder.tables import markdown_table

Row = dict[str, Any]
PACKAGES = ("torch", "diffusers", "numpy")


@dataclass(frozen=True)
class Result:
    """What an experiment found.

    Attributes:
        picture: The figure or the sheet.
        rows: The table, all rows with the same columns.
        settings: What was run, JSON-able.
        columns: The meaning of columns whose name does not tell it all.
        details: Further tables by name, written as CSV and into the JSON.
    """

    picture: Figure | PIL.Image.Image
    rows: Sequence[Row]
    settings: Mapping[str, Any]
    columns: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Sequence[Row]] = field(default_factory=dict)


def write_result(out: Path, name: str, result: Result) -> list[Path]:
    """Writes NAME.png, NAME.csv, NAME.md, NAME.json and NAME_<detail>.csv.

    Args:
        out: The folder.
        name: Of the experiment.
        result: What it found.

    Returns:
        The files.
    """
    out.mkdir(parents=True, exist_ok=True)
    stem = name.replace("-", "_")
    files = [out / f"{stem}{ending}" for ending in (".png", ".csv", ".md", ".json")]
    if isinstance(result.picture, Figure):
        result.picture.savefig(files[0], dpi=120)
    elif name == "forward":  # a given face with noise on it: nothing in it was generated
        result.picture.save(files[0])
    else:
        result.picture.save(files[0], pnginfo=png_text(_without_places(result.settings)))
    _write_csv(files[1], result.rows)
    files[2].write_text(as_markdown(name, result))
    for detail, rows in result.details.items():
        files.append(out / f"{stem}_{detail}.csv")
        _write_csv(files[-1], rows)
    whole = {
        "experiment": name,
        "settings": dict(result.settings),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        "columns": dict(result.columns),
        "rows": list(result.rows),
        **{detail: list(rows) for detail, rows in result.details.items()},
    }
    files[3].write_text(json.dumps(whole, indent=1) + "\n")
    return files


def _without_places(settings: Mapping[str, Any]) -> Row:
    """Settings whose models and data are named without the folders they lie in."""
    named = {
        key: ", ".join(model_name(str(each)) for each in (value if isinstance(value, list) else [value]))
        for key, value in settings.items()
        if key in ("model", "data")
    }
    return {**settings, **named}


def as_markdown(name: str, result: Result) -> str:
    """The table, what was run, and what the columns mean."""
    lines = [f"# halfface experiment {name}", "", markdown_table(result.rows)]
    lines += ["", *(f"- {column.replace('_', ' ')}: {meaning}" for column, meaning in result.columns.items())]
    lines += ["", "Settings: " + ", ".join(f"{key} {value}" for key, value in result.settings.items()) + ".", ""]
    return "\n".join(lines)


def _write_csv(file: Path, rows: Sequence[Row]) -> None:
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
