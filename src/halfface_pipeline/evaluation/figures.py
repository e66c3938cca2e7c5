"""Figures of an evaluation: sheets of completions, rank histograms, slices and probes with intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..data.images import ImageSet
from ..diffusion.halves import split
from ..inference.complete import model_metadata, model_name
from ..inference.png_metadata import SOFTWARE, save_png
from ..inference.sheets import sheet
from ..remote_code.halves import join
from ..run_folder.files import atomic_write
from .cache import Completions
from .dataset import to_tensor
from .measure import Measurements
from .metrics.registry import ROWS, hair_metric

SHEET, EXTREMES, RANKS, SLICES, PROBES = "completions.png", "extremes.png", "ranks.png", "slices.png", "readings.png"
PICTURES = (SHEET, EXTREMES, RANKS, SLICES, PROBES)
MAX_COLUMNS = 12
FACES_EACH = 2
SHOWN_FACES = 8


def draw_pictures(
    out: Path, metrics: dict[str, Any], found: Measurements, faces: ImageSet, completions: Completions, at_once: int
) -> None:
    """Writes the plots, and sheets of completions: of the first faces, and of the best, median and worst."""
    seed, num_faces = metrics["seeds"][0], metrics["num_faces"]
    hidden_half = completions.pipe.config.hidden_half
    facts = {"sampler": metrics["scheduler"], "steps": metrics["num_inference_steps"], "seed": seed}
    facts |= model_metadata(completions.pipe, model_name(completions.pipe.config.get("_name_or_path") or "unnamed"))

    def save_sheet(name: str, rows: Sequence[int], titles: Sequence[str] = ()) -> None:
        originals, completed = [], []
        for row in rows:
            first = row - row % at_once
            images = faces.images[first : min(first + at_once, num_faces)]
            hidden = completions.complete(images, first, seed).hidden[row - first]
            known = split(to_tensor(faces.images[row : row + 1]), hidden_half)[0].expand_as(hidden)
            whole = join(known, hidden, hidden_half).permute(0, 2, 3, 1).contiguous().numpy()
            completed += [PIL.Image.fromarray(image) for image in whole]
            originals.append(PIL.Image.fromarray(faces.images[row]))
        with atomic_write(out / name) as partial:
            save_png(sheet(originals, completed, titles), partial, **facts)

    save_sheet(SHEET, range(min(SHOWN_FACES, num_faces)))
    titles = ("original", "lowest energy score, median, highest")
    save_sheet(EXTREMES, extremes(found.rows["model"]["energy_score"]), titles)
    _save(rank_histograms(metrics), out / RANKS)
    if metrics["audit"]:
        _save(slice_scores(metrics), out / SLICES)
    if any(reading["measure"] for reading in metrics["readings"].values()):
        _save(probe_shifts(metrics), out / PROBES)


def _save(figure: Figure, file: Path) -> None:
    """Writes a figure that names this package as its software, by which the commands know their own files."""
    with atomic_write(file) as partial:
        figure.savefig(partial, dpi=110, metadata=SOFTWARE)


def extremes(scores: torch.Tensor) -> list[int]:
    """Indices of the `FACES_EACH` faces with the lowest, the median and the highest scores, without repetition."""
    order = scores.argsort().tolist()
    middle = max(0, (len(order) - FACES_EACH) // 2)
    chosen = [*order[:FACES_EACH], *order[middle : middle + FACES_EACH], *order[-FACES_EACH:]]
    return list(dict.fromkeys(chosen))


def rank_histograms(metrics: dict[str, Any]) -> Figure:
    """Rank histograms of the truth among its completions, with the 95 % band of a calibrated model."""
    histograms = metrics["rank_histograms"]
    figure = Figure(figsize=(2.6 * len(histograms), 2.9), layout="constrained")
    for axes, (name, ranks) in zip(
        figure.subplots(1, len(histograms), squeeze=False)[0], histograms.items(), strict=True
    ):
        counts = ranks["counts"]
        share = 1 / len(counts)
        expected, deviation = ranks["num_faces"] * share, (ranks["num_faces"] * share * (1 - share)) ** 0.5
        axes.bar(range(len(counts)), counts, color="tab:blue", width=0.9)
        axes.axhspan(max(0, expected - 1.96 * deviation), expected + 1.96 * deviation, color="tab:orange", alpha=0.25)
        axes.axhline(expected, color="tab:orange")
        axes.set_title(f"{name.replace('_', ' ')}, p = {ranks['p_value']:.2g}", fontsize=10)
        axes.set_xticks(range(len(counts)))
        axes.set_xlabel("rank of the truth")
    figure.axes[0].set_ylabel("faces")
    return figure


def slice_scores(metrics: dict[str, Any]) -> Figure:
    """The energy score of each slice and its shift of hair lightness, a row per column, the clearest columns first."""
    audited = metrics["audit"]
    no_gap = {"p_value": 2.0}
    columns = sorted(audited, key=lambda name: audited[name]["gaps"].get("energy_score", no_gap)["p_value"])
    panels = {"energy_score": "energy score (green: floor, red: another face)"}
    if shift := hair_metric(metrics["measures"]):
        panels[shift] = "lightness of hair, completed - true (L*)"
    heights = [len(audited[name]["slices"]) for name in columns[:MAX_COLUMNS]]
    figure = Figure(figsize=(5.5 * len(panels), 0.8 + 0.3 * sum(heights)), layout="constrained")
    grid = figure.subplots(len(heights), len(panels), squeeze=False, sharex="col", sharey="row", height_ratios=heights)
    for panel_row, column in zip(grid, columns, strict=False):
        slices = audited[column]["slices"]
        for axes, measure in zip(panel_row, panels, strict=True):
            entries = [piece["measures"][measure] for piece in slices]
            for key, colour in (("floor", "tab:green"), ("ceiling", "tab:red")) if measure == "energy_score" else ():
                axes.plot([entry[key] for entry in entries], range(len(slices)), "|", color=colour, ms=12, mew=2)
            draw_estimates(axes, [f"{piece['name']} (n={piece['num_faces']})" for piece in slices], entries, zorder=3)
        panel_row[0].set_ylabel(column.replace("_", " "), rotation=0, ha="right", va="center")
    for axes, label in zip(grid[-1], panels.values(), strict=True):
        axes.set_xlabel(label)
    return figure


def probe_shifts(metrics: dict[str, Any]) -> Figure:
    """How far completions and the baselines shift each valid probe."""
    found = {name: reading for name, reading in metrics["readings"].items() if reading["measure"]}
    shifts = [metrics["measures"][reading["measure"]]["rows"] for reading in found.values()]
    scales = [reading["deviation"] for reading in found.values()]
    rows = [row for row in ROWS if row != "truth" and shifts[0].get(row) is not None]
    figure = Figure(figsize=(7.5, 1.1 + 0.16 * len(rows) * len(found) + 0.12 * len(found)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        entries, offset = [each[row] for each in shifts], (place - (len(rows) - 1) / 2) * 0.8 / len(rows)
        labels = [name.replace("_", " ") for name in found]
        draw_estimates(axes, labels, entries, scales, offset, color=f"C{place}", label=ROWS[row])
    axes.set_xlabel("completed - true, in standard deviations of the ratings of held-out faces")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_estimates(
    axes: Axes,
    labels: Sequence[str],
    entries: Sequence[dict[str, Any]],
    scales: Sequence[float] | float = 1.0,
    offset: float = 0.0,
    **style: Any,
) -> None:
    """Estimates over a scale with their intervals, one below the other; single faces have no interval."""
    value, low, high = (
        np.array([entry[key] for entry in entries], float) / scales for key in ("value", "low", "high")
    )
    places = np.arange(len(entries))
    axes.errorbar(value, places + offset, xerr=(value - low, high - value), fmt="o", ms=4, capsize=2, **style)
    axes.set_yticks(places, labels, fontsize=8)
    axes.set_ylim(len(entries) - 0.5, -0.5)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.grid(axis="x", alpha=0.3)
