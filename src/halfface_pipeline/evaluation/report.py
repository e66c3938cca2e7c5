"""What an evaluation says, in words and tables: metrics.json and metrics.md."""

import json
import os
from pathlib import Path
from typing import Any

from .audit_report import gaps_section, readings_section, slices_section
from .catalogue import READING_SHIFT, describe
from .probes import LEAST_CORRELATION
from .significance import CHANCE
from .statistics import LEVEL
from .wording import ends, interval, number, probability, short, short_interval, table

ROWS = {
    "model": "model",
    "floor": "floor",
    "other_face": "another face",
    "nearest_training_face": "nearest training face",
    "mean_completion": "mean completion",
}
RATIOS = {"other_face": "of another face's", "exact": "of exact samples'", "truth": "of the truth's"}


def write_report(out: Path, metrics: dict[str, Any]) -> None:
    """Writes metrics.json and metrics.md, each whole or not at all.

    Args:
        out: The folder.
        metrics: What was measured.
    """
    texts = {"metrics.json": json.dumps(metrics, indent=1, allow_nan=False) + "\n", "metrics.md": as_markdown(metrics)}
    for name, text in texts.items():
        unfinished = out / f"{name}.tmp"
        unfinished.write_text(text)
        os.replace(unfinished, out / name)


def as_markdown(metrics: dict[str, Any], full: bool = True) -> str:
    """The measures, each beside its floor and its ceiling, and what follows from them.

    Args:
        metrics: What was measured.
        full: Also the measures by region, the frequencies and every slice.

    Returns:
        Markdown.
    """
    seeds = ", ".join(map(str, metrics["seeds"]))
    exact = "exact" in next(iter(metrics["measures"].values()))["rows"]
    floor = "exact redraws" if exact else "the truth itself"
    parts = [
        f"{metrics['num_faces']} held-out halves completed {metrics['num_completions']} times each, "
        f"{metrics['scheduler']}, {metrics['num_inference_steps']} steps, seed {seeds}; features "
        f"{metrics['features']['name']}. The floor is {floor}. In brackets: {LEVEL:.0%} intervals over faces.",
        _table(metrics, shown=True),
        "\n".join(_sentences(metrics)),
    ]
    parts.append(_real(metrics["real"], full))
    if full:
        parts += ["## By region, and shifts", _table(metrics, shown=False)]
        if metrics["free_factors"]:
            parts += ["## Free factors", _factors(metrics)]
        parts += ["## Rank of the truth among its completions", _ranks(metrics)]
        if metrics["readings"]:
            parts += ["## Read off whole faces", readings_section(metrics)]
        if metrics["audit"]:
            parts += ["## Slices", gaps_section(metrics), slices_section(metrics)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(metrics: dict[str, Any], shown: bool) -> str:
    some = next(iter(metrics["measures"].values()))["rows"]
    floor = "exact" if "exact" in some else "truth"
    rows = {"floor": floor} | {row: row for row in ROWS if row in some}
    rows = {row: rows[row] for row in ROWS if row in rows}
    lines = [["measure", *(ROWS[row] for row in rows), "meaning"]]
    for name, measure in metrics["measures"].items():
        if describe(name).shown != shown or name.startswith(READING_SHIFT):
            continue
        cells = []
        for row, key in rows.items():
            estimate = measure["rows"][key]
            cells.append(
                "" if estimate is None else interval(estimate) if row == "model" else number(estimate["value"])
            )
        lines.append([name.replace("_", " "), *cells, measure["meaning"]])
    return table(lines) if len(lines) > 1 else ""


def _sentences(metrics: dict[str, Any]) -> list[str]:
    kept = metrics["visible_pixels"]
    lines = [f"- Visible pixels came back bit for bit in {kept['faces_kept']} of {kept['num_faces']} faces."]
    for ratio in metrics["ratios"].values():
        measure = ratio["measure"].replace("_", " ").capitalize()
        lines.append(f"- {measure}: {interval(ratio)} {RATIOS[ratio['against']]}.")
    test = metrics["tests"]["seam_gradient"]
    verdict = "differs from" if test["p_value"] < CHANCE else "is not shown to differ from"
    apart = f"Kolmogorov-Smirnov distance {number(test['statistic'])}, {probability(test['p_value'], 'p')}"
    lines.append(f"- The gradient across the seam {verdict} that of real faces: {apart}.")
    lines += filter(None, [dark_hair_sentence(metrics)])
    return lines + [_reading_sentence(metrics, column) for column in metrics["readings"]]


def _reading_sentence(metrics: dict[str, Any], column: str) -> str:
    reading, word = metrics["readings"][column], column.replace("_", " ")
    reads = f"correlation {ends(reading['correlation'], '.2f')} with true held-out faces"
    if reading["measure"] is None:
        return f"- {word.capitalize()} cannot be read: {reads}, whose lower end must be at least {LEAST_CORRELATION}."
    rows = metrics["measures"][reading["measure"]]["rows"]
    matched = f"{rows['matched_truth']['value']:+.3g} for the truth made as noisy and as smooth"
    return f"- Read as {word}: {ends(rows['model'], '+.3g')} against the truth, {matched}; {reads}."


def dark_hair_sentence(metrics: dict[str, Any]) -> str | None:
    """Says whether dark hair is continued lighter, and by how much; none where no measure tells."""
    found = metrics["dark_hair"]
    if found is None:
        return None
    what = "Dark hair" if found["measure"].endswith("dark_hair") else "Dark hair (dark columns of the crown's colour)"
    if found["low"] is None:
        return f"- {what}: seen in {found['num_faces']} faces, too few to tell."
    shift = f"{found['value']:+.2f} L* [{found['low']:+.2f}, {found['high']:+.2f}] against the truth"
    verdict = "is not shown to change in lightness"
    if found["low"] > 0 or found["high"] < 0:
        verdict = "is continued lighter" if found["low"] > 0 else "is continued darker"
    return f"- {what} {verdict}: {shift}, {found['num_faces']} faces."


def _real(real: dict[str, Any], full: bool) -> str:
    """Distances between sets of images beside real against real, and memorisation."""
    if "left_out" in real:
        return f"Distances between sets of images are left out: {real['left_out']}."
    if not real:
        return ""
    some = next(iter(real["measures"].values()))["rows"]
    rows = [row for row in ("truth", "exact", *list(ROWS)[2:]) if row in some]
    titles = {"truth": "real against real", "exact": "exact samples", **ROWS}
    lines = [["sets of images", "model", "above real against real", *(titles[row] for row in rows)]]
    for name, measure in real["measures"].items():
        others = [short(measure["rows"][row]["value"]) for row in rows]
        lines.append(
            [
                name.replace("_", " "),
                short_interval(measure["rows"]["model"]),
                short_interval(measure["above_floor"]),
                *others,
            ]
        )
    parts = [table(lines)]
    if full:
        meanings = [f"- {name.replace('_', ' ')}: {measure['meaning']}" for name, measure in real["measures"].items()]
        each = f"{real['num_each']} real faces against {real['num_each']} completions of other faces"
        parts += ["\n".join(meanings), f"{each}, and the other way round."]
    found = real["memorisation"]
    if found is not None:
        told = [f"- {ROWS.get(row, 'real')}: {_memorised(found, row)}" for row in found["rows"]]
        parts.append("\n".join(told))
    return "\n\n".join(["## Looks real", *parts] if full else parts)


def _memorised(found: dict[str, Any], row: str) -> str:
    entry = found["rows"][row]
    closer = "closer" if entry["p_value"] < CHANCE else "not shown to be closer"
    return (
        f"{closer} to the {found['num_training']} training faces than to held-out ones: distance ratio "
        f"{interval(entry['ratio'])} of what chance gives, {probability(entry['p_value'], 'p')}."
    )


def _factors(metrics: dict[str, Any]) -> str:
    lines = [["factor", "value", "probability", "exact samples, as read", "model, as read"]]
    notes = []
    for name, factor in metrics["free_factors"].items():
        notes.append(
            f"{name}: {factor['num_faces']} faces, {factor['reading_accuracy']:.1%} of true ones read rightly, total "
            f"variation distance {factor['total_variation']:.3f} (exact samples {factor['total_variation_exact']:.3f})"
        )
        for label, value in factor["classes"].items():
            likely = f"{value['probability']:.3f} ± {value['sampling_error']:.3f}"
            lines.append([name, label, likely, interval(value["exact"]), interval(value["model"])])
    return (
        table(lines)
        + "\n\n"
        + "\n".join(f"- {note}" for note in notes)
        + "\n- ±: the standard error of independent draws."
    )


def _ranks(metrics: dict[str, Any]) -> str:
    lines = [["ranked by", "truth smallest ... largest", "chi square", "p", "meaning"]]
    for name, ranks in metrics["rank_histograms"].items():
        counts = " ".join(map(str, ranks["counts"]))
        cells = [f"{ranks['statistic']:.1f}", probability(ranks["p_value"]), ranks["meaning"]]
        lines.append([name.replace("_", " "), counts, *cells])
    return table(lines)
