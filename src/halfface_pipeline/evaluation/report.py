"""The report of an evaluation, metrics.md, from what metrics.json holds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..run_folder.tables import markdown_table
from .metrics.registry import PROBE_SHIFT, ROWS, find_metric, hair_metric
from .probes import MIN_CORRELATION
from .statistics import LEVEL, SIGNIFICANT

LISTED_GAPS = 8
SIGNED = "+.3g"
"""Format of shifts."""
Section = dict[str, Any]


def as_markdown(metrics: Section, full: bool = True) -> str:
    """The metrics.json next to their baselines, and what follows from them, in Markdown.

    Without `full`, the metrics by region, frequencies, ranks, probes and slices are left out.
    """
    floor = "exact samples" if "exact" in _rows_of(metrics) else "the truth itself"
    parts = [
        f"{metrics['num_faces']} held-out halves completed {metrics['num_completions']} times each, "
        f"{metrics['scheduler']}, {metrics['num_inference_steps']} steps, seed {_listed(metrics['seeds'])}; features "
        f"{metrics['features']['name']}. The floor is {floor}. In brackets: {LEVEL:.0%} intervals over faces.",
    ]
    if names := metrics["data"]["trained_on"]:
        parts.append(f"**{len(names)} of these faces are also in the training part**: {_listed(names)}.")
    parts += [_metrics_table(metrics, in_summary=True), "\n".join(_findings(metrics))]
    if not full:
        return "\n\n".join([*parts, _sets(metrics["real"])]) + "\n"
    sections = {
        "Sets of images": _sets(metrics["real"]),
        "By region, and shifts": _metrics_table(metrics, in_summary=False),
        "Free factors": _factors(metrics["free_factors"]),
        "Rank of the truth among its completions": _ranks(metrics["rank_histograms"]),
        "Probes": _probes(metrics),
        "Subgroups": _subgroups(metrics),
    }
    parts += [f"## {title}\n\n{text}" for title, text in sections.items() if text]
    return "\n\n".join(parts) + "\n"


# -------------------------------------------------------------------------------------------------------------- cells


def _table(rows: Iterable[Mapping[str, Any]], form: str = ".3g") -> str:
    return markdown_table([{name: _text(value, form) for name, value in row.items()} for row in rows])


def _text(value: Any, form: str = ".3g") -> str:
    """A number, or an estimate with its interval, which single faces do not have; empty for None."""
    if isinstance(value, Mapping):
        ends = f" [{_text(value['low'], form)}, {_text(value['high'], form)}]" if value["low"] is not None else ""
        return _text(value["value"], form) + ends
    if value is None:
        return ""
    return format(value, form) if isinstance(value, float) else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _rows_of(metrics: Section) -> Section:
    rows: Section = next(iter(metrics["measures"].values()))["rows"]
    return rows


# ------------------------------------------------------------------------------------------------------------ summary


def _metrics_table(metrics: Section, in_summary: bool) -> str:
    hidden = {"matched_truth", "truth" if "exact" in _rows_of(metrics) else ""}
    rows = []
    for name, measure in metrics["measures"].items():
        if find_metric(name).in_summary == in_summary and not name.startswith(PROBE_SHIFT):
            shown = {row: entry for row, entry in measure["rows"].items() if row not in hidden}
            cells = {ROWS[row]: entry and entry["value"] for row, entry in shown.items()}
            cells["model"] = shown["model"]
            rows.append({"metric": _words(name), **cells, "description": measure["meaning"]})
    return _table(rows)


def _findings(metrics: Section) -> list[str]:
    kept, test = metrics["visible_pixels"], metrics["tests"]["seam_gradient"]
    lines = [f"- Visible pixels are unchanged in {kept['faces_kept']} of {kept['num_faces']} faces."]
    for ratio in metrics["ratios"].values():
        name = _words(ratio["measure"]).capitalize()
        lines.append(f"- {name}: {_text(ratio)} times that of {ROWS[ratio['against']]}.")
    verdict = "differs significantly" if test["p_value"] < SIGNIFICANT else "does not differ significantly"
    distance = f"Kolmogorov-Smirnov distance {_text(test['statistic'])}, p {_p_value(test['p_value'])}"
    lines.append(f"- The gradient across the seam {verdict} from that of real faces: {distance}.")
    if metrics["dark_hair"] is not None:
        lines.append(dark_hair_sentence(metrics["dark_hair"]))
    return lines + [_probe_sentence(metrics, column) for column in metrics["readings"]]


def dark_hair_sentence(found: Section) -> str:
    """Whether dark hair is continued lighter or darker."""
    subject = (
        "Dark hair" if found["measure"].endswith("dark_hair") else "Dark hair (dark columns of the crown's colour)"
    )
    if found["low"] is None:
        return f"- {subject}: visible in {found['num_faces']} faces, too few for an interval."
    verdict = "does not change in lightness significantly"
    if found["low"] > 0 or found["high"] < 0:
        verdict = "is continued lighter" if found["low"] > 0 else "is continued darker"
    return f"- {subject} {verdict}: {_text(found, SIGNED)} L* from the truth, {found['num_faces']} faces."


def _probe_sentence(metrics: Section, column: str) -> str:
    probe, words = metrics["readings"][column], _words(column)
    correlation = f"correlation {_text(probe['correlation'])} on true held-out faces"
    if probe["measure"] is None:
        return f"- {words.capitalize()} cannot be predicted: {correlation}, must be above {MIN_CORRELATION}."
    rows = metrics["measures"][probe["measure"]]["rows"]
    matched = f"{_text(rows['matched_truth']['value'], SIGNED)} for the truth with the same noise and blur"
    return f"- Predicted {words}: {_text(rows['model'], SIGNED)} from the truth, {matched}; {correlation}."


# ----------------------------------------------------------------------------------------------------------- sections


def _sets(real: Section) -> str:
    """Distances between sets of images, and the test for copies of training faces."""
    if "left_out" in real:
        return f"Distances between sets of images are left out: {real['left_out']}."
    rows = []
    for name, measure in real["measures"].items():
        values = {row: entry["value"] for row, entry in measure["rows"].items()}
        cells = {"model": measure["rows"]["model"], "above real against real": measure["above_floor"]}
        cells["real against real"] = values["truth"]
        cells |= {ROWS[row]: values[row] for row in ROWS if row in values and row not in ("model", "truth")}
        rows.append({"sets of images": _words(name), **cells, "description": measure["meaning"]})
    each = f"{real['num_each']} real faces against {real['num_each']} completions of other faces, and vice versa."
    lines = []
    for row, entry in real["memorisation"]["rows"].items() if real["memorisation"] else ():
        closer = "closer" if entry["p_value"] < SIGNIFICANT else "not significantly closer"
        lines.append(
            f"- {ROWS[row]}: {closer} to the {real['memorisation']['num_training']} training faces than to held-out "
            f"ones: distance ratio {_text(entry['ratio'])} of that by chance, p {_p_value(entry['p_value'])}."
        )
    return "\n\n".join(filter(None, [_table(rows), each, "\n".join(lines)]))


def _factors(factors: Section) -> str:
    rows, notes = [], []
    for name, factor in factors.items():
        notes.append(
            f"- {name}: {factor['num_faces']} faces, accuracy {factor['reading_accuracy']:.1%} on true ones, total "
            f"variation distance {factor['total_variation']:.3f} (exact samples {factor['total_variation_exact']:.3f})"
        )
        for label, values in factor["classes"].items():
            probability = f"{values['probability']:.3f} ± {values['sampling_error']:.3f}"
            found = {ROWS[row]: values[row] for row in ("exact", "model")}
            rows.append({"factor": name, "class": label, "probability": probability, **found})
    notes.append("- ±: the standard error of independent samples.")
    return f"{_table(rows)}\n\n" + "\n".join(notes) if rows else ""


def _ranks(histograms: Section) -> str:
    return _table(
        {
            "ranked_by": _words(name),
            "truth smallest ... largest": " ".join(map(str, ranks["counts"])),
            "chi_square": ranks["statistic"],
            "p": _p_value(ranks["p_value"]),
            "description": ranks["meaning"],
        }
        for name, ranks in histograms.items()
    )


def _probes(metrics: Section) -> str:
    """How well each column is predicted, how far each row shifts the prediction, and the same by slice."""
    quality, shifts, by_slice = [], [], []
    for column, probe in metrics["readings"].items():
        figures = {name: probe[name] for name in ("correlation", "r2", "slope")}
        known = {"correlation, known half alone": probe["known_correlation"], "hidden_share": probe["hidden_share"]}
        quality.append({"column": _words(column), **figures, **known, "valid": "yes" if probe["measure"] else "no"})
        if probe["measure"] is None:
            continue
        rows, names = metrics["measures"][probe["measure"]]["rows"], {"shift_of": _words(column)}
        deviations = f"{rows['model']['value'] / probe['deviation']:+.2f}"
        found = {ROWS[row]: rows[row] for row in ROWS if row != "truth" and rows.get(row)}
        shifts.append({**names, "in standard deviations": deviations, **found})
        for by in (f"known_{column}", column):
            for piece in metrics["audit"].get(by, {"slices": []})["slices"]:
                shift = piece["measures"][probe["measure"]]
                names |= {"by": _words(by), "slice": piece["name"], "faces": piece["num_faces"]}
                by_slice.append(
                    {**names, "model": shift, "exact_samples": shift["floor"] if "exact" in rows else None}
                )
    return "\n\n".join(filter(None, [_table(quality), _table(shifts, SIGNED), _table(by_slice, SIGNED)]))


def _subgroups(metrics: Section) -> str:
    """The clearest gaps between slices, and the energy score and the shift of hair lightness of each slice."""
    if not metrics["audit"]:
        return ""
    shift = hair_metric(metrics["measures"])
    rows = []
    for column, part in metrics["audit"].items():
        for piece in part["slices"]:
            score = piece["measures"]["energy_score"]
            cells = {"energy_score": score, "floor": score["floor"], "another face": score["ceiling"]}
            cells["hair: lightness shift, L*"] = _text(piece["measures"][shift], SIGNED) if shift else ""
            rows.append({"column": _words(column), "slice": piece["name"], "faces": piece["num_faces"], **cells})
    return f"{_gaps(metrics['audit'])}\n\n{_table(rows)}"


def _gaps(audit: Section) -> str:
    """The clearest gaps between the worst and the best slice of a column, and how many of all are significant."""
    gaps = [(column, metric, gap) for column, part in audit.items() for metric, gap in part["gaps"].items()]
    if not gaps:
        return "No column has two slices that are large enough to compare."
    gaps.sort(key=lambda each: (each[2]["q_value"], -each[2]["ratio"], each[0], each[1]))
    rows = [
        {
            "column": _words(column),
            "metric": _words(metric),
            "worst_slice": gap["worst"],
            "best_slice": gap["best"],
            "worst / best": gap | {"value": gap["ratio"]},
            "p": _p_value(gap["p_value"]),
            "q": _p_value(gap["q_value"]),
        }
        for column, metric, gap in gaps[:LISTED_GAPS]
    ]
    below = sum(gap["q_value"] < SIGNIFICANT for _, _, gap in gaps)
    return (
        f"{below} of {len(gaps)} gaps have a false discovery rate q below {SIGNIFICANT} "
        f"(p from permuting faces among the slices). The {len(rows)} clearest:\n\n{_table(rows)}"
    )
