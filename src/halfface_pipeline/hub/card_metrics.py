"""What a model card reports of a run's evaluation and training, read from the files in its folder.

A file that is missing or has another format gives no figures and never stops a card.
"""

import json
from collections.abc import Mapping, Sequence
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
SETTINGS = ("num_faces", "num_completions", "scheduler", "num_inference_steps")
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

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low is not None and self.high is not None and self.low * self.high > 0

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
    q_value: float | None


@dataclass(frozen=True)
class Evaluation:
    """What `halfface evaluate --out RUN/evaluation` left.

    Args:
        settings: N, K, sampler, steps and seed, by name.
        data: What it was measured on.
        figures: The measures.
        gaps: Of the audit, the largest first.
        shifts: Signed measures, completed less true, whose interval leaves out 0.
        pictures: Sheets of completions, relative to the run.
        failures: Sheets of failure cases, relative to the run.
        intervals: What the figures' intervals are.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""
    figures: Sequence[Figure] = ()
    gaps: Sequence[Gap] = ()
    shifts: Sequence[Figure] = ()
    pictures: Sequence[str] = ()
    failures: Sequence[str] = ()
    intervals: str = ""


def read_evaluation(run: Path) -> Evaluation:
    """The figures of RUN/evaluation/metrics.json and the pictures next to it.

    Args:
        run: The run folder.

    Returns:
        The figures; an empty evaluation if there is no such file, or one of another format.
    """
    pictures = [f"{EVALUATION}/{file.name}" for file in sorted((run / EVALUATION).glob("*.png"))]
    failures = [name for name in pictures if any(word in Path(name).stem for word in FAILURES)]
    try:
        metrics = json.loads((run / METRICS).read_text())
        measures = metrics["measures"] | metrics["real"].get("measures", {})
        figures = [_figure(name, entry) for name, entry in measures.items() if entry["rows"].get("model")]
        signed = {name for name, entry in measures.items() if entry["group"] == "shift"}
        gaps = [
            Gap(column, name.replace("_", " "), gap["worst"], gap["best"], _measured(gap, "ratio"), gap["q_value"])
            for column, entry in metrics["audit"].items()
            for name, gap in entry["gaps"].items()
        ]
        settings = {name: metrics[name] for name in SETTINGS}
        settings |= {"seeds": ", ".join(map(str, metrics["seeds"])), "features": metrics["features"]["name"]}
        level, method = metrics["intervals"]["level"], metrics["intervals"]["method"]
        return Evaluation(
            settings=settings,
            data=metrics["data"]["name"] or metrics["data"]["source"],
            figures=[figure for figure in figures if figure.name not in signed],
            gaps=sorted(gaps, key=lambda gap: -gap.ratio.value)[:MOST_GAPS],
            shifts=[figure for figure in figures if figure.name in signed and figure.model.excludes_zero],
            pictures=[name for name in pictures if name not in failures],
            failures=failures,
            intervals=f"{level:.0%} intervals, {method}",
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Evaluation()


def _measured(entry: Mapping[str, Any], key: str = "value") -> Measured:
    return Measured(float(entry[key]), entry.get("low"), entry.get("high"))


def _figure(name: str, entry: Mapping[str, Any]) -> Figure:
    rows = entry["rows"]
    found = {word: next((rows[key] for key in keys if rows.get(key)), None) for word, keys in BESIDE.items()}
    beside = {word: _measured(row) for word, row in found.items() if row}
    unit = f" ({entry['unit']})" if entry["group"] == "shift" else ""
    return Figure(name, _measured(rows["model"]), beside, f"{entry['meaning']}{unit}")


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
    try:
        rows = json.loads((run / SAMPLERS).read_text())["rows"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [row for row in rows if isinstance(row, dict) and {"scheduler", "steps"} <= row.keys()]
