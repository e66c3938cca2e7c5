"""The files of an experiment: a picture, a table as CSV and Markdown, and a JSON with its settings."""

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import PIL.Image
from matplotlib.figure import Figure

from ..inference.complete import model_name
from ..inference.png_metadata import png_text
from ..run_folder.tables import markdown_table, write_csv

Row = dict[str, Any]
DETAILS = {"schedule": ("steps",), "objectives": ("hair_colours",), "prior": ("intervals", "gaussian")}
"""Further tables, by experiment."""
PACKAGES = ("torch", "diffusers", "numpy")


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


def check_files(out: Path, name: str, details: Iterable[str] = ()) -> list[Path]:
    """Names the files of an experiment and checks that none would replace a file of the user.

    Args:
        out: The folder.
        name: Name of the experiment.
        details: Names of further tables.

    Returns:
        NAME.png, NAME.csv, NAME.md, NAME.json and NAME_<detail>.csv.

    Raises:
        ValueError: If one of them exists and is not as this experiment wrote it, by the digests in NAME.json.
    """
    stem = name.replace("-", "_")
    files = [out / f"{stem}{ending}" for ending in (".png", ".csv", ".md", ".json")]
    files += [out / f"{stem}_{detail}.csv" for detail in details]
    try:
        whole = json.loads(files[3].read_text())
        digests = {**whole["files"], files[3].name: _digest(files[3])} if whole["experiment"] == name else {}
    except (OSError, ValueError, KeyError, TypeError):
        digests = {}
    for file in files:
        if file.exists() and (not file.is_file() or digests.get(file.name) != _digest(file)):
            raise ValueError(
                f"--out is {str(out)!r}, where {file.name} is not as `halfface experiment {name}` wrote it; "
                "it must be another folder, or the file must be moved away"
            )
    return files


def write_result(out: Path, name: str, result: Result) -> list[Path]:
    """Writes the files of an experiment; files and errors as in `check_files`."""
    files = check_files(out, name, result.details)
    out.mkdir(parents=True, exist_ok=True)
    picture, table, markdown, whole, *details = files
    if isinstance(result.picture, Figure):
        result.picture.savefig(picture, dpi=120)
    elif name == "forward":  # a given face with noise on it: nothing in it was generated
        result.picture.save(picture)
    else:
        result.picture.save(picture, pnginfo=png_text(_without_places(result.settings)))
    markdown.write_text(as_markdown(name, result))
    for file, rows in zip([table, *details], [result.rows, *result.details.values()], strict=True):
        write_csv(file, rows)
    content = {
        "experiment": name,
        "settings": dict(result.settings),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        "columns": dict(result.columns),
        "rows": list(result.rows),
        **{detail: list(rows) for detail, rows in result.details.items()},
        "files": {file.name: _digest(file) for file in files if file != whole},
    }
    whole.write_text(json.dumps(content, indent=1) + "\n")
    return files


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


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
