"""What the audit says, in words and tables: readings, gaps between slices, and every slice."""

from typing import Any

from .probes import READ_ROWS
from .significance import CHANCE
from .wording import ends, interval, number, probability, table

LISTED_GAPS = 8


def readings_section(metrics: dict[str, Any]) -> str:
    """How well each column is read, and how far each row shifts it."""
    readings, measures = metrics["readings"], metrics["measures"]
    lines = [["column", "correlation", "R2", "slope", "hidden share", "correlation, known half alone", "read"]]
    for column, reading in readings.items():
        told = [ends(reading[name], ".2f") for name in ("correlation", "r2", "slope")]
        share, known = f"{reading['hidden_share']:.2f}", ends(reading["known_correlation"], ".2f")
        lines.append([column.replace("_", " "), *told, share, known, "yes" if reading["measure"] else "no"])
    parts = [table(lines)]
    read = {column: measures[reading["measure"]]["rows"] for column, reading in readings.items() if reading["measure"]}
    if read:
        titles = {name: title for name, title in READ_ROWS.items() if next(iter(read.values())).get(name) is not None}
        lines = [["shift of", "of one deviation", *titles.values()]]
        for column, rows in read.items():
            share = f"{rows['model']['value'] / readings[column]['deviation']:+.2f}"
            lines.append([column.replace("_", " "), share, *(ends(rows[name], "+.3g") for name in titles)])
        parts.append(table(lines))
        lines = [["shift of", "by", "slice", "faces", "model", "exact samples"]]
        for column, rows in read.items():
            for by in (f"known_{column}", column):
                for piece in metrics["audit"].get(by, {"slices": []})["slices"]:
                    shift = piece["measures"][readings[column]["measure"]]
                    exact = f"{shift['floor']:+.3g}" if "exact" in rows else ""
                    cells = [piece["name"], str(piece["num_faces"]), ends(shift, "+.3g"), exact]
                    lines.append([column.replace("_", " "), by.replace("_", " "), *cells])
        parts += [table(lines)] if len(lines) > 1 else []
    return "\n\n".join(parts)


def gaps_section(metrics: dict[str, Any]) -> str:
    """The clearest gaps between the worst and the best slice of a column, and how many of all there are."""
    found = [
        (gap["q_value"], -gap["ratio"], column, measure, gap)
        for column, part in metrics["audit"].items()
        for measure, gap in part["gaps"].items()
        if None not in (gap["ratio"], gap["low"], gap["high"])  # over a slice without fault there is no ratio
    ]
    if not found:
        return "No column cuts the faces into two slices that are large enough to compare."
    below = sum(entry[0] < CHANCE for entry in found)
    lines = [["column", "measure", "worst slice", "best slice", "worst / best", "p", "q"]]
    for q_value, _, column, measure, gap in sorted(found)[:LISTED_GAPS]:
        ratio = f"{gap['ratio']:.2f} [{gap['low']:.2f}, {gap['high']:.2f}]"
        words = column.replace("_", " "), measure.replace("_", " ")
        lines.append([*words, gap["worst"], gap["best"], ratio, probability(gap["p_value"]), probability(q_value)])
    return (
        f"{below} of {len(found)} gaps have q < {CHANCE}: of these one in {1 / CHANCE:.0f} may be chance (p from "
        "faces shuffled among the slices, q corrected for the number of gaps). "
        f"The {len(lines) - 1} clearest:\n\n{table(lines)}"
    )


def slices_section(metrics: dict[str, Any]) -> str:
    """Of each slice the energy score beside its floor and ceiling, and the shift of hair lightness."""
    names = metrics["measures"]
    shift = next(
        (f"lightness_shift_{region}" for region in ("hair", "hair_like") if f"lightness_shift_{region}" in names), None
    )
    lines = [["column", "slice", "faces", "energy score", "floor", "another face", "hair: lightness shift, L*"]]
    for column, part in metrics["audit"].items():
        for piece in part["slices"]:
            score = piece["measures"]["energy_score"]
            cells = [interval(score), number(score["floor"]), number(score["ceiling"])]
            moved = interval(piece["measures"][shift]) if shift else ""
            lines.append([column.replace("_", " "), piece["name"], str(piece["num_faces"]), *cells, moved])
    return table(lines)
