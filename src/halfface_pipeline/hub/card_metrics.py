"""What a model card tells of a run's evaluation and training, read from the files in its folder.

Files that are not there, or that hold something else than expected, give no figures; they never stop a card.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

EVALUATION = "evaluation"
METRICS = f"{EVALUATION}/metrics.json"
SAMPLERS = "samplers/samplers.json"
"""Of `halfface experiment samplers --out RUN/samplers`."""
BESIDE = {"floor": ("floor", "exact", "truth"), "ceiling": ("ceiling", "other_face")}
"""What floor and ceiling are called, best first."""
FAILURES = ("worst", "extremes", "failure")
"""What the name of a picture of failure cases holds."""
MOST_GAPS = 20
"""Gaps between slices that a card lists."""


@dataclass(frozen=True)
class Measured:
    """A number with its interval.

    Args:
        value: The estimate.
        low: Lower end of the interval; none where there is none.
        high: Upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        interval = "" if self.low is None or self.high is None else f" ({self.low:.4g} to {self.high:.4g})"
        return f"{self.value:.4g}{interval}"


@dataclass(frozen=True)
class Figure:
    """One measure of the model.

    Args:
        name: Its key.
        model: What the model scores.
        beside: What the floor and the ceiling score, by name.
        meaning: What is measured.
    """

    name: str
    model: Measured
    beside: Mapping[str, Measured]
    meaning: str

    @property
    def title(self) -> str:
        """The name as people read it."""
        return self.name.replace("_", " ").replace(".", ", ")


@dataclass(frozen=True)
class Gap:
    """The worst slice of a column against the best.

    Args:
        column: What faces were sliced by.
        measure: In which the slices differ.
        worst: Name of the worst slice.
        best: Name of the best.
        ratio: The worst one's mean over the best one's.
        q_value: How often slices drawn at random differ as much, corrected for the number of gaps.
    """

    column: str
    measure: str
    worst: str
    best: str
    ratio: Measured
    q_value: Measured | None


@dataclass(frozen=True)
class Evaluation:
    """What `halfface evaluate --out RUN/evaluation` left.

    Args:
        settings: N, K, sampler, steps and seed, by name.
        data: What it was measured on.
        figures: The measures.
        slices: Measure, slice and what the model scores there.
        gaps: Of the audit, the largest first.
        shifts: Signed measures, completed less true, whose interval leaves out 0.
        pictures: Sheets of completions, relative to the run.
        failures: Sheets of failure cases, relative to the run.
        intervals: What the figures' intervals are.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""
    figures: Sequence[Figure] = ()
    slices: Sequence[tuple[str, str, Measured]] = ()
    gaps: Sequence[Gap] = ()
    shifts: Sequence[Figure] = ()
    pictures: Sequence[str] = ()
    failures: Sequence[str] = ()
    intervals: str = ""


def read_evaluation(run: Path) -> Evaluation:
    """The figures of RUN/evaluation/metrics.json, of any version of its schema, and the pictures beside it.

    Args:
        run: The run folder.

    Returns:
        What was found; an empty evaluation if there is none.
    """
    metrics = _read(run / METRICS)
    if not isinstance(metrics, dict):
        return Evaluation()
    settings = {**_plain(metrics.get("settings")), **_plain(metrics)}
    settings.pop("schema_version", None)
    features = metrics.get("features")
    if isinstance(features, dict) and "name" in features:
        settings["features"] = features["name"]
    data = metrics.get("data")
    named = [data.get(key) for key in ("name", "path", "source")] if isinstance(data, dict) else [data]
    source = next((name for name in named if name), None)
    intervals = _mapping(metrics.get("intervals"))
    level = _measured(intervals.get("level"))
    gaps = sorted(_gaps(metrics.get("audit")), key=lambda gap: -gap.ratio.value)
    pictures = [f"{EVALUATION}/{file.name}" for file in sorted((run / EVALUATION).glob("*.png"))]
    failures = [name for name in pictures if any(word in Path(name).stem for word in FAILURES)]
    return Evaluation(
        settings=settings,
        data=Path(str(source or "not named")).name,
        figures=[*_figures(metrics.get("measures", {})), *_figures(_mapping(metrics.get("real")).get("measures", {}))],
        slices=list(_slices(metrics.get("slices", {}))),
        gaps=gaps[:MOST_GAPS],
        shifts=list(_shifts(metrics.get("measures"))),
        pictures=[name for name in pictures if name not in failures],
        failures=failures,
        intervals=f"{level.value:.0%} intervals, {intervals.get('method', '')}" if level else "",
    )


def eval_results(evaluation: Evaluation, dataset_type: str) -> list[EvalResult]:
    """The figures as the Hub's model-index has them.

    Args:
        evaluation: The figures.
        dataset_type: Hub id of the data, or what kind they are.

    Returns:
        A result a measure.
    """
    return [
        EvalResult(
            task_type="image-to-image",
            task_name="Half-face completion",
            dataset_type=dataset_type,
            dataset_name=evaluation.data,
            dataset_split="held-out faces",
            metric_type=figure.name,
            metric_name=figure.title,
            metric_value=float(f"{figure.model.value:.6g}"),
            metric_args=dict(evaluation.settings),
        )
        for figure in evaluation.figures
    ]


def training_cost_words(log: Sequence[Mapping[str, float]]) -> str:
    """Images seen and time taken, from the lines of log.jsonl."""
    seconds, seen = 0.0, 0.0
    for line in log:
        if line.get("images_per_second"):
            seconds += (line["images_seen"] - seen) / line["images_per_second"]
        seen = line.get("images_seen", seen)
    if not seconds:
        return "not logged"
    minutes = seconds / 60
    took = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
    took = f"{seconds:.0f} seconds" if minutes < 2 else took
    return f"{seen:,.0f} images in {took}, {seen / seconds:.1f} a second; the log does not name the machine"


def read_samplers(run: Path) -> list[dict[str, Any]]:
    """Rows that `halfface experiment samplers --out RUN/samplers` measured; none if it was not run."""
    rows = (_read(run / SAMPLERS) or {}).get("rows", [])
    return [row for row in rows if isinstance(row, dict) and {"scheduler", "steps"} <= row.keys()]


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None


def _plain(values: Any) -> dict[str, Any]:
    """What of a mapping is a number or a word."""
    if not isinstance(values, dict):
        return {}
    plain = {
        key: ", ".join(map(str, value)) if key == "seeds" and isinstance(value, list) else value
        for key, value in values.items()
        if isinstance(value, str | int | float) or key == "seeds"
    }
    return {key: value for key, value in plain.items() if key not in ("command", "commit")}


def _measured(value: Any) -> Measured | None:
    """A number, or a mapping that holds one with its interval."""
    if isinstance(value, dict):
        number = next((value[key] for key in ("value", "mean", "estimate") if key in value), None)
        low, high = value.get("low"), value.get("high")
        interval = value.get("interval")
        if isinstance(interval, list) and len(interval) == 2:
            low, high = interval
        found, ends = _measured(number), (_measured(low), _measured(high))
        if found is None or ends[0] is None or ends[1] is None:
            return found
        return Measured(found.value, ends[0].value, ends[1].value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return Measured(float(value))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _figures(measures: Any, prefix: str = "") -> Iterator[Figure]:
    """Measures by name, alone or in named groups."""
    for name, entry in measures.items() if isinstance(measures, dict) else ():
        if not isinstance(entry, dict):
            continue
        if entry.get("group") == "shift":
            continue  # signed: told by `_shifts`
        rows = entry["rows"] if isinstance(entry.get("rows"), dict) else entry
        model = _measured(rows.get("model", rows if "value" in rows else None))
        if model is None:
            if rows is entry:
                yield from _figures(entry, f"{prefix}{name}.")
            continue
        beside = {
            row: next((rows[key] for key in keys if rows.get(key) is not None), None) for row, keys in BESIDE.items()
        }
        known = {row: measured for row, value in beside.items() if (measured := _measured(value)) is not None}
        yield Figure(f"{prefix}{name}", model, known, str(entry.get("meaning", "")))


def _shifts(measures: Any) -> Iterator[Figure]:
    for name, entry in measures.items() if isinstance(measures, dict) else ():
        if isinstance(entry, dict) and entry.get("group") == "shift":
            model = _measured(_mapping(entry.get("rows")).get("model"))
            if model is not None and model.low is not None and model.high is not None and model.low * model.high > 0:
                yield Figure(name, model, {}, f"{entry.get('meaning', '')} ({entry.get('unit', '')})")


def _slices(entries: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str, Measured]]:
    """Rows of an audit, given as a list of rows or as nested mappings that end in numbers."""
    if isinstance(entries, list):
        for row in entries:
            value = _measured(row.get("model", row)) if isinstance(row, dict) else None
            if value is not None:
                words = [str(row[key]) for key in ("column", "slice", "name") if key in row]
                yield str(row.get("measure", "")).replace("_", " "), ", ".join((*path, *words)), value
        return
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        value = _measured(entry.get("model", entry)) if isinstance(entry, dict) else _measured(entry)
        if value is not None:
            yield name.replace("_", " "), ", ".join(path), value
        elif isinstance(entry, dict | list):
            yield from _slices(entry, (*path, name))


def _gaps(audit: Any) -> Iterator[Gap]:
    for column, entry in audit.items() if isinstance(audit, dict) else ():
        gaps = entry.get("gaps") if isinstance(entry, dict) else None
        for measure, gap in gaps.items() if isinstance(gaps, dict) else ():
            ratio = _measured({**gap, "value": gap.get("ratio")}) if isinstance(gap, dict) else None
            if ratio is not None:
                words = (str(gap.get("worst", "")), str(gap.get("best", "")))
                yield Gap(column, measure.replace("_", " "), *words, ratio, _measured(gap.get("q_value")))
