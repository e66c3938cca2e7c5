"""The files of an experiment: a picture, a table as CSV and Markdown, and a JSON with its settings."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL.Image
from matplotlib.figure import Figure

from ..evaluation.summary import versions
from ..inference.complete import model_name
from ..inference.png_metadata import SOFTWARE, png_text, software_mark
from ..run_folder.tables import markdown_table, write_csv

Row = dict[str, Any]
DETAILS = {"schedule": ("steps",), "objectives": ("hair_colours",), "prior": ("intervals", "gaussian")}
"""Further tables, by experiment."""


@dataclass(frozen=True)
class Result:
    """The result of an experiment.

    Attributes:
        picture: The figure or the sheet.
        rows: The table, all rows with the same columns.
        settings: The settings, JSON-able.
        columns: The meaning of columns whose name does not explain it.
        details: Further tables by name, written as CSV and into the JSON.
    """

    picture: Figure | PIL.Image.Image
    rows: Sequence[Row]
    settings: Mapping[str, Any]
    columns: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Sequence[Row]] = field(default_factory=dict)


def file_names(name: str, details: Iterable[str] = ()) -> list[str]:
    """The files of an experiment: picture, table as CSV and Markdown, JSON, and a CSV for each further table."""
    stem = name.replace("-", "_")
    return [
        *(f"{stem}.{ending}" for ending in ("png", "csv", "md", "json")),
        *(f"{stem}_{each}.csv" for each in details),
    ]


def write_result(out: Path, name: str, result: Result) -> list[Path]:
    """Writes the files of an experiment, in the order of `file_names`."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / file for file in file_names(name, result.details)]
    picture, table, markdown, whole, *details = files
    if isinstance(result.picture, Figure):
        result.picture.savefig(picture, dpi=120, metadata=SOFTWARE)
    elif name == "forward":  # a given face with noise on it: nothing in it was generated
        result.picture.save(picture, pnginfo=software_mark())
    else:
        result.picture.save(picture, pnginfo=png_text(_without_places(result.settings)))
    markdown.write_text(as_markdown(name, result))
    for file, rows in zip([table, *details], [result.rows, *result.details.values()], strict=True):
        write_csv(file, rows)
    content = {
        "experiment": name,
        "settings": dict(result.settings),
        "versions": versions(),
        "columns": dict(result.columns),
        "rows": list(result.rows),
        **{detail: list(rows) for detail, rows in result.details.items()},
    }
    whole.write_text(json.dumps(content, indent=1) + "\n")
    return files


def _without_places(settings: Mapping[str, Any]) -> Row:
    """Settings with models and data named without their folders."""
    named = {
        key: ", ".join(model_name(str(each)) for each in (value if isinstance(value, list) else [value]))
        for key, value in settings.items()
        if key in ("model", "data")
    }
    return {**settings, **named}


def as_markdown(name: str, result: Result) -> str:
    """The table, the meaning of its columns, and the settings."""
    lines = [f"# halfface experiment {name}", "", markdown_table(result.rows)]
    lines += ["", *(f"- {column.replace('_', ' ')}: {meaning}" for column, meaning in result.columns.items())]
    lines += ["", "Settings: " + ", ".join(f"{key} {value}" for key, value in result.settings.items()) + ".", ""]
    return "\n".join(lines)
