"""Figures of an evaluation: sheets of completions, rank histograms, slices and probes with intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
        _save(slice_bars(metrics), out / SLICES)
    if any(reading["measure"] for reading in metrics["readings"].values()):
        _save(probe_shifts(metrics), out / PROBES)


def _save(figure: Figure, file: Path) -> None:
    """Writes a figure that names this package as its software, by which the commands know their own files."""
    with atomic_write(file) as partial:
        figure.savefig(partial, dpi=110, metadata=SOFTWARE)


def extremes(scores: torch.Tensor, each: int = FACES_EACH) -> list[int]:
    """Indices of the `each` faces with the lowest, the median and the highest scores, without repetition."""
    order = scores.argsort().tolist()
    middle = max(0, (len(order) - each) // 2)
    chosen = [*order[:each], *order[middle : middle + each], *order[-each:]]
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


def slice_bars(metrics: dict[str, Any]) -> Figure:
    """The energy score of each slice and its shift of hair lightness, a row per column, the clearest columns first."""
    audited = metrics["audit"]
    columns = sorted(audited, key=lambda name: _p_value(audited[name]))[:MAX_COLUMNS]
    panels = {"energy_score": "energy score (green: floor, red: another face)"}
    if shift := hair_metric(metrics["measures"]):
        panels[shift] = "lightness of hair, completed - true (L*)"
    bars = [len(audited[name]["slices"]) for name in columns]
    figure = Figure(figsize=(5.5 * len(panels), 0.8 + 0.3 * sum(bars)), layout="constrained")
    grid = figure.subplots(len(columns), len(panels), squeeze=False, sharex="col", sharey="row", height_ratios=bars)
    for row, column in zip(grid, columns, strict=True):
        for axes, measure in zip(row, panels, strict=True):
            _draw_bars(axes, audited[column]["slices"], measure)
        row[0].set_ylabel(column.replace("_", " "), rotation=0, ha="right", va="center")
        row[0].invert_yaxis()
    for axes, label in zip(grid[-1], panels.values(), strict=True):
        axes.set_xlabel(label)
    return figure


def _p_value(part: dict[str, Any]) -> float:
    """Of a column's gap in energy score; above 1 where it has none."""
    gap = part["gaps"].get("energy_score")
    return 2.0 if gap is None else float(gap["p_value"])


def _draw_bars(axes: Axes, slices: list[dict[str, Any]], measure: str) -> None:
    """A bar per slice with its interval; for the energy score also its floor and ceiling as lines."""
    axes.set_yticks(range(len(slices)), [f"{piece['name']} (n={piece['num_faces']})" for piece in slices], fontsize=8)
    axes.grid(axis="x", alpha=0.3)
    axes.axvline(0, color="black", linewidth=0.8)
    for place, piece in enumerate(slices):
        entry = piece["measures"][measure]
        if entry["value"] is None:
            continue
        axes.barh(place, entry["value"], color="tab:blue", height=0.8)
        if entry["low"] is not None:
            axes.plot([entry["low"], entry["high"]], [place, place], color="black", linewidth=1.5)
        for name, colour in (("floor", "tab:green"), ("ceiling", "tab:red")):
            if measure == "energy_score" and entry[name]:
                axes.plot([entry[name]] * 2, [place - 0.4, place + 0.4], color=colour, linewidth=2)


def probe_shifts(metrics: dict[str, Any]) -> Figure:
    """How far completions and the baselines shift each valid probe."""
    found = {name: reading for name, reading in metrics["readings"].items() if reading["measure"]}
    some = metrics["measures"][next(iter(found.values()))["measure"]]["rows"]
    rows = [row for row in ROWS if row != "truth" and some.get(row) is not None]
    figure = Figure(figsize=(7.5, 1.1 + 0.16 * len(rows) * len(found) + 0.12 * len(found)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        for number, reading in enumerate(found.values()):
            entry, scale = metrics["measures"][reading["measure"]]["rows"][row], reading["deviation"]
            height = number + (place - (len(rows) - 1) / 2) * 0.8 / len(rows)
            value, low, high = (entry[key] / scale for key in ("value", "low", "high"))
            ends = ([value - low], [high - value])
            label = ROWS[row] if number == 0 else None
            axes.errorbar([value], [height], xerr=ends, fmt="o", color=f"C{place}", ms=4, capsize=2, label=label)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(found)), [name.replace("_", " ") for name in found])
    axes.invert_yaxis()
    axes.set_xlabel("completed - true, in standard deviations of the ratings of held-out faces")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
