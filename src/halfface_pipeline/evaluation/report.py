"""The report of an evaluation: the sections of metrics.json, and metrics.md."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from ..run_folder.tables import markdown_table
from .factors import CLASSES, PROBABILITIES
from .measure import Measurements
from .metrics.registry import PROBE_SHIFT, RANKED, ROWS, dark_hair_metric, find_metric
from .probes import MIN_CORRELATION
from .statistics import (
    LEVEL,
    SIGNIFICANT,
    exchange_test,
    mean_estimate,
    mean_estimates,
    ratio_estimate,
    uniform_ranks_test,
)

LISTED_GAPS = 8
TO_OTHER_FACE = ("energy_score", "distance_to_truth")
TO_FLOOR = ("energy_score", "spread", "pairwise_distance", "residual_noise", "sharpness", "seam_gradient")
"""Metrics whose ratio to a baseline is reported."""
Section = dict[str, Any]


# ------------------------------------------------------------------------------------------------------- metrics.json


def summarise(found: Measurements) -> Section:
    """The sections `measures`, `ratios`, `tests`, `visible_pixels`, `rank_histograms`, `free_factors`, `dark_hair`."""
    estimates = {row: mean_estimates(values) for row, values in found.rows.items()}
    measures = {}
    for name in found.rows["model"]:
        metric = find_metric(name)
        measures[name] = {
            "group": metric.group,
            "meaning": metric.description,
            "unit": metric.unit,
            "better": metric.better,
            "rows": {row: asdict(each[name]) if name in each else None for row, each in estimates.items()},
            "by_seed": [float(values[name].nanmean()) for values in found.by_seed],
        }
    dark = dark_hair_metric(list(found.rows["model"]))
    gradients = found.seam_gradients
    num_ranks = gradients.shape[1]
    return {
        "measures": measures,
        "ratios": _ratios(found),
        "tests": {"seam_gradient": asdict(exchange_test(gradients[:, 0], gradients[:, 1:]))},
        "visible_pixels": {"faces_kept": int(found.visible_kept.sum()), "num_faces": len(found.visible_kept)},
        "rank_histograms": {
            name: {
                "meaning": RANKED[name],
                "counts": torch.bincount(ranks, minlength=num_ranks).tolist(),
                **asdict(uniform_ranks_test(ranks, num_ranks)),
            }
            for name, ranks in found.ranks.items()
        },
        "free_factors": _free_factors(found),
        "dark_hair": None if dark is None else {"measure": dark, **asdict(estimates["model"][dark])},
    }


def _ratios(found: Measurements) -> Section:
    """The model's mean over that of the floor or of another face."""
    floor = "exact" if "exact" in found.rows else "truth"
    pairs = [(name, "other_face") for name in TO_OTHER_FACE]
    pairs += [(name, floor) for name in TO_FLOOR if floor == "exact" or name != "energy_score"]
    section = {}
    for name, row in pairs:
        if name in found.rows[row]:
            ratio = ratio_estimate(found.rows["model"][name], found.rows[row][name])
            section[f"{name}_to_{row}"] = {"measure": name, "against": row, **asdict(ratio)}
    return section


def _free_factors(found: Measurements) -> Section:
    """The frequency of each class of each free factor."""
    section: Section = {}
    for name, classes in CLASSES.items() if found.factors else ():
        truth, predicted = found.factors["truth"][name], found.factors["truth_predicted"][name]
        applies = truth[:, 0] >= 0
        if not bool(applies.any()):
            continue
        shares, variation = {}, {}
        for row in ("exact", "model"):
            labels = found.factors[row][name][applies]
            shares[row] = [(labels == index).double().mean(dim=1) for index in range(len(classes))]
            pairs = zip(shares[row], PROBABILITIES[name], strict=True)
            variation[row] = sum(abs(float(share.mean()) - probability) for share, probability in pairs) / 2
        section[name] = {
            "num_faces": int(applies.sum()),
            "reading_accuracy": float((truth == predicted)[applies].double().mean()),
            "total_variation": variation["model"],
            "total_variation_exact": variation["exact"],
            "classes": {
                label: {
                    "probability": probability,
                    "sampling_error": math.sqrt(
                        probability * (1 - probability) / found.factors["model"][name][applies].numel()
                    ),
                    **{row: asdict(mean_estimate(shares[row][index])) for row in ("exact", "model")},
                }
                for index, (label, probability) in enumerate(zip(classes, PROBABILITIES[name], strict=True))
            },
        }
    return section


# --------------------------------------------------------------------------------------------------------- metrics.md


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


def _rows_of(metrics: Section) -> Section:
    rows: Section = next(iter(metrics["measures"].values()))["rows"]
    return rows


def _metrics_table(metrics: Section, in_summary: bool) -> str:
    floor = "exact" if "exact" in _rows_of(metrics) else "truth"
    columns = ["model", floor, "other_face", "nearest_training_face", "mean_completion"]
    columns = [row for row in columns if row in _rows_of(metrics)]
    rows = []
    for name, measure in metrics["measures"].items():
        if find_metric(name).in_summary == in_summary and not name.startswith(PROBE_SHIFT):
            cells = {ROWS[row]: _value(measure["rows"][row]) for row in columns}
            cells["model"] = _interval(measure["rows"]["model"])
            rows.append({"metric": _words(name), **cells, "description": measure["meaning"]})
    return markdown_table(rows)


def _findings(metrics: Section) -> list[str]:
    kept, test = metrics["visible_pixels"], metrics["tests"]["seam_gradient"]
    lines = [f"- Visible pixels are unchanged in {kept['faces_kept']} of {kept['num_faces']} faces."]
    for ratio in metrics["ratios"].values():
        name = _words(ratio["measure"]).capitalize()
        lines.append(f"- {name}: {_interval(ratio)} times that of {ROWS[ratio['against']]}.")
    verdict = "differs significantly" if test["p_value"] < SIGNIFICANT else "does not differ significantly"
    distance = f"Kolmogorov-Smirnov distance {_number(test['statistic'])}, p {_p_value(test['p_value'])}"
    lines.append(f"- The gradient across the seam {verdict} from that of real faces: {distance}.")
    lines += filter(None, [dark_hair_sentence(metrics["dark_hair"])])
    return lines + [_probe_sentence(metrics, column) for column in metrics["readings"]]


def dark_hair_sentence(found: Section | None) -> str | None:
    """Whether dark hair is continued lighter or darker; None where no metric says so."""
    if found is None:
        return None
    subject = (
        "Dark hair" if found["measure"].endswith("dark_hair") else "Dark hair (dark columns of the crown's colour)"
    )
    if found["low"] is None:
        return f"- {subject}: visible in {found['num_faces']} faces, too few for an interval."
    verdict = "does not change in lightness significantly"
    if found["low"] > 0 or found["high"] < 0:
        verdict = "is continued lighter" if found["low"] > 0 else "is continued darker"
    return f"- {subject} {verdict}: {_interval(found, '+.3g')} L* from the truth, {found['num_faces']} faces."


def _probe_sentence(metrics: Section, column: str) -> str:
    probe, words = metrics["readings"][column], _words(column)
    correlation = f"correlation {_interval(probe['correlation'])} on true held-out faces"
    if probe["measure"] is None:
        return f"- {words.capitalize()} cannot be predicted: {correlation}, must be above {MIN_CORRELATION}."
    rows = metrics["measures"][probe["measure"]]["rows"]
    matched = f"{_value(rows['matched_truth'], '+.3g')} for the truth with the same noise and blur"
    return f"- Predicted {words}: {_interval(rows['model'], '+.3g')} from the truth, {matched}; {correlation}."


def _sets(real: Section) -> str:
    """Distances between sets of images, and the test for copies of training faces."""
    if "left_out" in real:
        return f"Distances between sets of images are left out: {real['left_out']}."
    rows = []
    for name, measure in real["measures"].items():
        values = measure["rows"]
        cells = {"model": _interval(values["model"]), "above real against real": _interval(measure["above_floor"])}
        cells["real against real"] = _value(values["truth"])
        cells |= {ROWS[row]: _value(values[row]) for row in ROWS if row in values and row not in ("model", "truth")}
        rows.append({"sets of images": _words(name), **cells, "description": measure["meaning"]})
    each = f"{real['num_each']} real faces against {real['num_each']} completions of other faces, and vice versa."
    parts = [markdown_table(rows), each]
    if found := real["memorisation"]:
        lines = []
        for row, entry in found["rows"].items():
            closer = "closer" if entry["p_value"] < SIGNIFICANT else "not significantly closer"
            lines.append(
                f"- {ROWS[row]}: {closer} to the {found['num_training']} training faces than to held-out "
                f"ones: distance ratio {_interval(entry['ratio'])} of that by chance, p {_p_value(entry['p_value'])}."
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _factors(factors: Section) -> str:
    rows, notes = [], []
    for name, factor in factors.items():
        notes.append(
            f"- {name}: {factor['num_faces']} faces, accuracy {factor['reading_accuracy']:.1%} on true ones, total "
            f"variation distance {factor['total_variation']:.3f} (exact samples {factor['total_variation_exact']:.3f})"
        )
        for label, values in factor["classes"].items():
            probability = f"{values['probability']:.3f} ± {values['sampling_error']:.3f}"
            found = {ROWS[row]: _interval(values[row]) for row in ("exact", "model")}
            rows.append({"factor": name, "class": label, "probability": probability, **found})
    notes.append("- ±: the standard error of independent samples.")
    return f"{markdown_table(rows)}\n\n" + "\n".join(notes) if rows else ""


def _ranks(histograms: Section) -> str:
    rows = [
        {
            "ranked_by": _words(name),
            "truth smallest ... largest": " ".join(map(str, ranks["counts"])),
            "chi_square": _number(ranks["statistic"]),
            "p": _p_value(ranks["p_value"]),
            "description": ranks["meaning"],
        }
        for name, ranks in histograms.items()
    ]
    return markdown_table(rows)


def _probes(metrics: Section) -> str:
    """How well each column is predicted, how far each row shifts the prediction, and the same by slice."""
    quality, shifts, by_slice = [], [], []
    for column, probe in metrics["readings"].items():
        words = _words(column)
        figures = {name: _interval(probe[name]) for name in ("correlation", "r2", "slope")}
        known = {"correlation, known half alone": _interval(probe["known_correlation"])}
        share = {"hidden_share": _number(probe["hidden_share"]), "valid": "yes" if probe["measure"] else "no"}
        quality.append({"column": words, **figures, **known, **share})
        if probe["measure"] is None:
            continue
        rows = metrics["measures"][probe["measure"]]["rows"]
        found = {ROWS[row]: _interval(rows[row], "+.3g") for row in ROWS if row != "truth" and rows.get(row)}
        deviations = _number(rows["model"]["value"] / probe["deviation"], "+.2f")
        shifts.append({"shift_of": words, "in standard deviations": deviations, **found})
        for by in (f"known_{column}", column):
            for piece in metrics["audit"].get(by, {"slices": []})["slices"]:
                shift = piece["measures"][probe["measure"]]
                names = {"shift_of": words, "by": _words(by), "slice": piece["name"], "faces": piece["num_faces"]}
                floor = _number(shift["floor"], "+.3g") if "exact" in rows else ""
                by_slice.append({**names, "model": _interval(shift, "+.3g"), "exact_samples": floor})
    return "\n\n".join(markdown_table(rows) for rows in (quality, shifts, by_slice) if rows)


def _subgroups(metrics: Section) -> str:
    """The clearest gaps between slices, and the energy score and the shift of hair lightness of each slice."""
    if not metrics["audit"]:
        return ""
    names = ("lightness_shift_hair", "lightness_shift_hair_like")
    shift = next((name for name in names if name in metrics["measures"]), None)
    rows = []
    for column, part in metrics["audit"].items():
        for piece in part["slices"]:
            score = piece["measures"]["energy_score"]
            cells = {"energy_score": _interval(score), "floor": _number(score["floor"])}
            cells["another face"] = _number(score["ceiling"])
            cells["hair: lightness shift, L*"] = _interval(piece["measures"][shift], "+.3g") if shift else ""
            rows.append({"column": _words(column), "slice": piece["name"], "faces": piece["num_faces"], **cells})
    return f"{_gaps(metrics['audit'])}\n\n{markdown_table(rows)}"


def _gaps(audit: Section) -> str:
    """The clearest gaps between the worst and the best slice of a column, and how many of all are significant."""
    gaps = [
        {"column": column, "metric": metric, **gap}
        for column, part in audit.items()
        for metric, gap in part["gaps"].items()
    ]
    if not gaps:
        return "No column has two slices that are large enough to compare."
    gaps.sort(key=lambda gap: (gap["q_value"], -gap["ratio"], gap["column"], gap["metric"]))
    rows = [
        {
            "column": _words(gap["column"]),
            "metric": _words(gap["metric"]),
            "worst_slice": gap["worst"],
            "best_slice": gap["best"],
            "worst / best": _interval(gap | {"value": gap["ratio"]}),
            "p": _p_value(gap["p_value"]),
            "q": _p_value(gap["q_value"]),
        }
        for gap in gaps[:LISTED_GAPS]
    ]
    below = sum(gap["q_value"] < SIGNIFICANT for gap in gaps)
    return (
        f"{below} of {len(gaps)} gaps have a false discovery rate q below {SIGNIFICANT} "
        f"(p from permuting faces among the slices). The {len(rows)} clearest:\n\n{markdown_table(rows)}"
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))


def _number(value: float | None, form: str = ".3g") -> str:
    return "" if value is None else format(value, form)


def _value(estimate: Mapping[str, Any] | None, form: str = ".3g") -> str:
    return "" if estimate is None else _number(estimate["value"], form)


def _interval(estimate: Mapping[str, Any], form: str = ".3g") -> str:
    """A value with its interval, which single faces do not have."""
    if estimate["value"] is None or estimate["low"] is None:
        return _value(estimate, form)
    return f"{_value(estimate, form)} [{_number(estimate['low'], form)}, {_number(estimate['high'], form)}]"


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
