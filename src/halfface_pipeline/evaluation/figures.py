"""Figures of an evaluation: sheets of completions, rank histograms, slices and probes with intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..data.images import ImageSet
from ..inference.complete import model_metadata, model_name
from ..inference.png_metadata import save_png
from ..inference.sheets import sheet
from ..remote_code.halves import join
from ..run_folder.files import atomic_write
from .cache import Completions
from .dataset import make_plain_batch
from .measure import Measurements
from .metrics.registry import ROWS

SHEET, EXTREMES, RANKS, SLICES, PROBES = "completions.png", "extremes.png", "ranks.png", "slices.png", "readings.png"
PICTURES = (SHEET, EXTREMES, RANKS, SLICES, PROBES)
MAX_COLUMNS = 12
MAX_BARS = 18
"""Slices in a row of the figure, which keeps it about as wide as a page."""
FACES_EACH = 2
SHOWN_FACES = 8


def draw_pictures(
    out: Path, metrics: dict[str, Any], found: Measurements, faces: ImageSet, completions: Completions
) -> None:
    """Writes the plots, and sheets of completions: of the first faces, and of the best, median and worst."""
    seed, num_faces = metrics["seeds"][0], metrics["num_faces"]
    hidden_half, at_once = completions.pipe.config.hidden_half, completions.faces_at_once
    facts = {"sampler": metrics["scheduler"], "steps": metrics["num_inference_steps"], "seed": seed}
    facts |= model_metadata(completions.pipe, model_name(completions.pipe.config.get("_name_or_path") or "unnamed"))

    def save_sheet(name: str, rows: Sequence[int], titles: Sequence[str] = ()) -> None:
        originals, completed = [], []
        for row in rows:
            first = row - row % at_once
            batch = make_plain_batch(faces, hidden_half, range(first, min(first + at_once, num_faces)))
            hidden = completions.complete(batch, first, seed).hidden[row - first]
            known = batch.known[row - first][None].expand_as(hidden)
            whole = join(known, hidden, hidden_half).permute(0, 2, 3, 1).contiguous().numpy()
            completed += [PIL.Image.fromarray(image) for image in whole]
            originals.append(batch.originals[row - first])
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
        figure.savefig(partial, dpi=110, metadata={"Software": "halfface_pipeline"})


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
    """The energy score of each slice and its shift of hair lightness, the clearest columns first."""
    audited = metrics["audit"]
    names = metrics["measures"]
    shift = next((name for name in ("lightness_shift_hair", "lightness_shift_hair_like") if name in names), None)
    columns = sorted(audited, key=lambda name: _clearest(audited[name]))[:MAX_COLUMNS]
    panels = ["energy_score", *([shift] if shift else [])]
    widths = [max(2, len(audited[name]["slices"])) for name in columns]
    rows = _fill_rows(columns, widths)
    widest = max(sum(within) for _, within in rows)
    figure = Figure(figsize=(max(5.0, 0.62 * widest), 2.5 * len(panels) * len(rows)), layout="constrained")
    for strip, (line, within) in zip(figure.subfigures(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        # An empty panel at the end of a short row keeps its bars as wide as the others'.
        spare = [widest - sum(within)] if sum(within) < widest else []
        columns_here = len(line) + len(spare)
        grid = strip.subplots(len(panels), columns_here, squeeze=False, width_ratios=[*within, *spare], sharey="row")
        for axes in grid[:, len(line) :].flat:
            axes.set_visible(False)
        for panel, measure in enumerate(panels):
            for place, column in enumerate(line):
                axes = grid[panel][place]
                _bars(axes, audited[column]["slices"], measure)
                axes.tick_params(axis="x", rotation=30, labelsize=7)
                axes.set_xmargin(0.02)
                if panel == 0:
                    axes.set_title(column.replace("_", " "), fontsize=10)
                    axes.set_xticklabels([])
            label = (
                "energy score\n(green: floor,\nred: another face)"
                if measure == "energy_score"
                else "lightness shift of hair\ncompleted - true (L*)"
            )
            grid[panel][0].set_ylabel(label, fontsize=9)
    return figure


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


def _fill_rows(columns: list[str], widths: list[int]) -> list[tuple[list[str], list[int]]]:
    """Distributes columns over rows of at most `MAX_BARS` bars."""
    rows: list[tuple[list[str], list[int]]] = []
    for column, width in zip(columns, widths, strict=True):
        if not rows or sum(rows[-1][1]) + width > MAX_BARS:
            rows.append(([], []))
        rows[-1][0].append(column)
        rows[-1][1].append(width)
    return rows


def _clearest(part: dict[str, Any]) -> float:
    """The p-value of a column's gap in energy score; above 1 where it has none."""
    gap = part["gaps"].get("energy_score")
    return 2.0 if gap is None else float(gap["p_value"])


def _bars(axes: Axes, slices: list[dict[str, Any]], measure: str) -> None:
    """One bar per slice with its interval; for the energy score also its floor and ceiling as lines."""
    labels = [f"{piece['name']}\nn={piece['num_faces']}" for piece in slices]
    found = [piece["measures"][measure] for piece in slices]
    heights = [entry["value"] or 0.0 for entry in found]
    ends = [(h, h) if e["low"] is None else (e["low"], e["high"]) for h, e in zip(heights, found, strict=True)]
    below = [height - low for height, (low, _) in zip(heights, ends, strict=True)]
    above = [high - height for height, (_, high) in zip(heights, ends, strict=True)]
    axes.bar(range(len(slices)), heights, color="tab:blue", yerr=(below, above), capsize=3, ecolor="black", width=0.8)
    if measure == "energy_score":
        for place, entry in enumerate(found):
            for name, colour in (("floor", "tab:green"), ("ceiling", "tab:red")):
                if entry[name]:
                    axes.plot([place - 0.4, place + 0.4], [entry[name]] * 2, color=colour, linewidth=2)
    else:
        axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(slices)), labels)
    axes.grid(axis="y", alpha=0.3)
