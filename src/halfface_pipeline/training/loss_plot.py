"""The loss of a run over its steps."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

WINDOW = 20
"""Logged lines that a line is compared with."""
SPIKE = 1.5
"""A loss this many times the median of the lines before it counts as a spike."""


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
    figure = Figure(figsize=(8, 5))
    # Room for the longest tick labels; a layout engine would draw the figure twice to find it.
    figure.subplots_adjust(left=0.16, right=0.98, bottom=0.1, top=0.97, hspace=0.12)
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
