"""Pictures of a run: sheets of completions and the loss over time."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
from matplotlib.figure import Figure

MARGIN = 4
SMALLEST_FACE = 96
"""Faces lower than this many pixels are shown enlarged."""
WINDOW = 20
"""Logged lines that a line is compared with."""
SPIKE = 1.5
"""A loss this many times the median of the lines before it counts as a spike."""


def sheet(
    originals: Sequence[PIL.Image.Image], completions: Sequence[PIL.Image.Image], titles: Sequence[str] = ()
) -> PIL.Image.Image:
    """A grid: each row an original, then its completions.

    Args:
        originals: Whole faces of one size.
        completions: Completed faces of the same size, those of one original together.
        titles: Over the columns, the original's included; none takes `original`, `completions`.

    Returns:
        The sheet.
    """
    columns = len(completions) // len(originals)
    rows = [[original, *completions[row * columns : (row + 1) * columns]] for row, original in enumerate(originals)]
    return _table(rows, titles or ("original", "completions"))


def grid(images: Sequence[PIL.Image.Image], columns: int) -> PIL.Image.Image:
    """Images of one size row by row under the title `samples`, `columns` of them in a row."""
    return _table([images[first : first + columns] for first in range(0, len(images), columns)], ("samples",))


def _table(rows: Sequence[Sequence[PIL.Image.Image]], titles: Sequence[str]) -> PIL.Image.Image:
    width, height = rows[0][0].size
    scale = max(1, -(-SMALLEST_FACE // height))
    cell_width, cell_height = width * scale + MARGIN, height * scale + MARGIN
    header = 16
    picture = PIL.Image.new("RGB", (len(rows[0]) * cell_width + MARGIN, len(rows) * cell_height + header), "white")
    draw = PIL.ImageDraw.Draw(picture)
    for column, title in enumerate(titles):
        draw.text((MARGIN + column * cell_width, 2), title, fill="black")
    for row, faces in enumerate(rows):
        for column, face in enumerate(faces):
            face = face.resize((width * scale, height * scale), PIL.Image.Resampling.BICUBIC)
            picture.paste(face, (MARGIN + column * cell_width, header + row * cell_height))
    return picture


def spike_ratios(losses: Sequence[float]) -> dict[int, float]:
    """Each logged loss over the median of the `WINDOW` before it; above `SPIKE` it is a spike.

    Args:
        losses: Line by line.

    Returns:
        The ratio by line, from line `WINDOW` on.
    """
    return {i: losses[i] / statistics.median(losses[i - WINDOW : i]) for i in range(WINDOW, len(losses))}


def save_loss_plot(log: Sequence[dict[str, float]], file: Path) -> None:
    """Draws loss, with its spikes marked, and learning rate over optimizer steps.

    Args:
        log: Lines of log.jsonl.
        file: The PNG to write.
    """
    steps = [line["step"] for line in log]
    figure = Figure(figsize=(8, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    losses = [line["loss"] for line in log]
    upper.plot(steps, losses, color="tab:blue", linewidth=0.8)
    spikes = [i for i, ratio in spike_ratios(losses).items() if ratio > SPIKE]
    if spikes:
        marks = [steps[i] for i in spikes], [losses[i] for i in spikes]
        label = f"above {SPIKE} times the median of the {WINDOW} before"
        upper.plot(*marks, "v", color="tab:red", markersize=5, linestyle="none", label=label)
        upper.legend(loc="upper right", fontsize="small")
    upper.set_yscale("log")
    upper.set_ylabel("loss")
    lower.plot(steps, [line["lr"] for line in log], color="tab:orange")
    lower.set_ylabel("learning rate")
    lower.set_xlabel("optimizer steps")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=120)
