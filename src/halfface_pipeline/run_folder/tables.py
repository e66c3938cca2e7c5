"""Tables as Markdown and CSV, for the card, the evaluation and the experiments."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Formats rows as a Markdown table.

    Args:
        rows: Rows with the columns of the first. Underscores in column names become blanks, floats are shown with
            four significant digits, None as an empty cell.

    Returns:
        The table without a final newline; empty if there are no rows.
    """
    if not rows:
        return ""
    names = list(rows[0])
    cells = [[name.replace("_", " ") for name in names], ["---"] * len(names)]
    cells += [[_shown(row[name]) for name in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_csv(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows with the columns of the first as CSV; None as an empty cell."""
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
