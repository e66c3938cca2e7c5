"""Numbers, intervals and tables as the reports write them."""

import math
from typing import Any


def number(value: float | None) -> str:
    """A number with three to four digits that tell; nothing for none."""
    if value is None:
        return ""
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.2f}"


def probability(p_value: float, letter: str = "") -> str:
    """A p-value, never shown as 0; behind a letter, as in `p = 0.020`, or alone in a table."""
    if p_value < 0.001:
        return f"{letter} < 0.001".lstrip()
    return f"{letter} = {p_value:.3f}" if letter else f"{p_value:.3f}"


def interval(estimate: dict[str, Any]) -> str:
    """A value with its interval."""
    if estimate["value"] is None:
        return ""
    around = "" if estimate["low"] is None else f" [{number(estimate['low'])}, {number(estimate['high'])}]"
    return number(estimate["value"]) + around


def short(value: float | None) -> str:
    """A number with three digits that tell, however small; nothing for none."""
    return "" if value is None else f"{value:.3g}"


def short_interval(estimate: dict[str, Any]) -> str:
    """As `interval`, in three digits."""
    return f"{short(estimate['value'])} [{short(estimate['low'])}, {short(estimate['high'])}]"


def ends(estimate: dict[str, Any], form: str) -> str:
    """A value with its interval, each in the form given."""
    parts = [format(math.nan if estimate[key] is None else estimate[key], form) for key in ("value", "low", "high")]
    return f"{parts[0]} [{parts[1]}, {parts[2]}]"


def table(lines: list[list[str]]) -> str:
    """A Markdown table whose first line is its head."""
    head, *rest = ["| " + " | ".join(cells) + " |" for cells in lines]
    return "\n".join([head, "| --- " * len(lines[0]) + "|", *rest])
