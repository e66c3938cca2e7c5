"""What a model card reports of a run's evaluation and training, read from the files in its folder.

A file that is missing or has another format gives no figures and never stops a card.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

EVALUATION = "evaluation"
METRICS = f"{EVALUATION}/metrics.json"
SAMPLERS = "samplers/samplers.json"
"""Of `halfface experiment samplers --out RUN/samplers`."""
BASELINES = {"oracle": ("exact", "truth"), "mismatched_half": ("other_face",)}
"""Rows of metrics.json by column of the card, best first."""
FAILURES = ("worst", "extremes", "failure")
"""Parts of the names of pictures that show failure cases."""
SETTINGS = ("num_faces", "num_completions", "scheduler", "num_inference_steps")
MOST_GAPS = 20
"""Gaps between slices that a card lists."""
ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError)

Row = dict[str, Any]


def read_evaluation(run: Path) -> dict[str, Any]:
    """What `halfface evaluate --out RUN/evaluation` measured, for the card; empty if it cannot be read.

    `settings`, `data`, `values` by metric, the rows of the tables `metrics`, `gaps` (the largest) and `shifts` (whose
    interval excludes 0), `pictures` and `failures` relative to the run, `intervals`.
    """
    pictures = [f"{EVALUATION}/{file.name}" for file in sorted((run / EVALUATION).glob("*.png"))]
    failures = [name for name in pictures if any(word in Path(name).stem for word in FAILURES)]
    try:
        found = json.loads((run / METRICS).read_text())
        every = {
            name: entry
            for name, entry in (found["measures"] | found["real"].get("measures", {})).items()
            if entry["rows"].get("model")
        }
        measures = {name: entry for name, entry in every.items() if entry["group"] != "shift"}
        shifts = {name: entry for name, entry in every.items() if entry["group"] == "shift"}
        return {
            "settings": {name: found[name] for name in SETTINGS}
            | {"seeds": ", ".join(map(str, found["seeds"])), "features": found["features"]["name"]},
            "data": found["data"]["name"] or found["data"]["source"],
            "values": {name: float(entry["rows"]["model"]["value"]) for name, entry in measures.items()},
            "metrics": [_metric_row(name, entry) for name, entry in measures.items()],
            "gaps": _gap_rows(found["audit"]),
            "shifts": [_shift_row(name, entry) for name, entry in shifts.items() if _excludes_zero(entry)],
            "pictures": [name for name in pictures if name not in failures],
            "failures": failures,
            "intervals": f"{found['intervals']['level']:.0%} intervals, {found['intervals']['method']}",
        }
    except ERRORS:
        return {}


def _title(name: str) -> str:
    return name.replace("_", " ").replace(".", ", ")


def _interval(entry: Mapping[str, Any] | None, key: str = "value") -> str | None:
    """VALUE (LOW to HIGH) of an estimate, without the brackets where it has no interval."""
    if not entry:
        return None
    low, high = entry.get("low"), entry.get("high")
    return f"{entry[key]:.4g}" + ("" if low is None or high is None else f" ({low:.4g} to {high:.4g})")


def _metric_row(name: str, entry: Mapping[str, Any]) -> Row:
    rows = entry["rows"]
    baselines = {
        column: _interval(next((rows[row] for row in names if rows.get(row)), None))
        for column, names in BASELINES.items()
    }
    return {"metric": _title(name), "model": _interval(rows["model"]), **baselines, "meaning": entry["meaning"]}


def _shift_row(name: str, entry: Mapping[str, Any]) -> Row:
    meaning = f"{entry['meaning']} ({entry['unit']})"
    return {"shift": _title(name), "model": _interval(entry["rows"]["model"]), "meaning": meaning}


def _excludes_zero(entry: Mapping[str, Any]) -> bool:
    model = entry["rows"]["model"]
    return model.get("low") is not None and bool(model["low"] * model["high"] > 0)


def _gap_rows(audit: Mapping[str, Any]) -> list[Row]:
    gaps = [(column, name, gap) for column, entry in audit.items() for name, gap in entry["gaps"].items()]
    gaps = sorted(gaps, key=lambda each: -each[2]["ratio"])[:MOST_GAPS]
    return [
        {"column": column, "metric": _title(name), "worst": gap["worst"], "best": gap["best"]}
        | {"ratio": _interval(gap, "ratio"), "q": gap["q_value"]}
        for column, name, gap in gaps
    ]


def eval_results(evaluation: Mapping[str, Any], dataset_type: str) -> list[EvalResult]:
    """One entry of the Hub's model-index per metric; `dataset_type` is the Hub id or the kind of the data."""
    return [
        EvalResult(
            task_type="image-to-image",
            task_name="Half-face completion",
            dataset_type=dataset_type,
            dataset_name=evaluation["data"],
            dataset_split="held-out faces",
            metric_type=name,
            metric_name=_title(name),
            metric_value=float(f"{value:.6g}"),
            metric_args=evaluation["settings"],
        )
        for name, value in evaluation.get("values", {}).items()
    ]


def training_cost_words(log: Sequence[Mapping[str, float]]) -> str:
    """Images seen and time taken, from the entries of log.jsonl."""
    seconds, seen = 0.0, 0.0
    for line in log:
        if line.get("images_per_second"):
            seconds += (line["images_seen"] - seen) / line["images_per_second"]
        seen = line.get("images_seen", seen)
    if not seconds:
        return "not logged"
    took = f"{seconds / 3600:.1f} hours" if seconds >= 7200 else f"{seconds / 60:.0f} minutes"
    took = f"{seconds:.0f} seconds" if seconds < 120 else took
    return f"{seen:,.0f} images in {took}, {seen / seconds:.1f} per second; the log does not name the machine"


def read_samplers(run: Path) -> list[Row]:
    """Rows of `halfface experiment samplers --out RUN/samplers`; empty if it was not run."""
    try:
        rows = json.loads((run / SAMPLERS).read_text())["rows"]
    except ERRORS:
        return []
    return [row for row in rows if isinstance(row, dict) and {"scheduler", "steps"} <= row.keys()]
