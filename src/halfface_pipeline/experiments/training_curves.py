"""Loss and learning rate of several runs, and the spikes in them (the report's figures 5 to 9)."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..config.files import from_yaml
from ..run_folder.log import CONFIG_FILE, LOG_FILE, read_log
from ..training.loss_plot import SPIKE, WINDOW, spike_ratios
from .results import Result, Row

AFTER_RESTART = 10
"""Log entries after a restart that count as its own."""


def training_curves(runs: Sequence[Path]) -> Result:
    """Plots loss and learning rate of each run folder and counts spikes; ValueError for up to `WINDOW` log entries."""
    logs: dict[str, list[dict[str, float]]] = {}
    rows: list[Row] = []
    for run in runs:
        log = read_log(run / LOG_FILE)
        if not (run / CONFIG_FILE).is_file() or len(log) <= WINDOW:
            raise ValueError(
                f"--model is {str(run)!r}; it must be a run folder with {CONFIG_FILE} and more than {WINDOW} lines in "
                f"{LOG_FILE}, and {len(log)} are there"
            )
        config = from_yaml(run / CONFIG_FILE)
        logs[run.name] = log
        rows.append(
            {"run": run.name, "batch_size": config.training.batch_size, "peak_lr": config.optimizer.lr}
            | {"steps": log[-1]["step"], "epochs": round(log[-1]["epoch"], 2)}
            | {"final_loss": statistics.mean(line["loss"] for line in log[-WINDOW:])}
            | spikes(log)
        )
    columns = {
        "final_loss": f"mean of the last {WINDOW} logged lines",
        "spikes": f"logged losses above {SPIKE} times the median of the {WINDOW} before them",
        "largest_ratio": "the largest such ratio",
        "restarts": "times the learning rate jumped up",
        "largest_ratio_after_restart": f"among the {AFTER_RESTART} lines after a restart",
        "largest_ratio_elsewhere": "among all other lines",
    }
    return Result(_figure(logs), rows, {"runs": list(logs)}, columns)


def spikes(log: Sequence[Mapping[str, float]]) -> Row:
    """Spikes of a logged loss (more than `WINDOW` entries), apart for those after a restart of the learning rate."""
    # A restart raises the rate from near 0 to its peak at once; a warm-up rises in small steps.
    restarts = [i for i in range(1, len(log)) if log[i]["lr"] > 2 * log[i - 1]["lr"] and i >= WINDOW]
    near = {line for start in restarts for line in range(start, start + AFTER_RESTART)}
    ratios = spike_ratios([line["loss"] for line in log])
    return {
        "spikes": sum(ratio > SPIKE for ratio in ratios.values()),
        "largest_ratio": max(ratios.values()),
        "restarts": len(restarts),
        "largest_ratio_after_restart": max((ratio for i, ratio in ratios.items() if i in near), default=None),
        "largest_ratio_elsewhere": max((ratio for i, ratio in ratios.items() if i not in near), default=None),
    }


def _figure(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    figure = Figure(figsize=(4.2 * len(logs), 4.6), layout="constrained")
    panels = figure.subplots(2, len(logs), sharex="col", sharey="row", height_ratios=(3, 1), squeeze=False)
    for (name, log), (upper, lower) in zip(logs.items(), panels.T, strict=True):
        steps = [line["step"] for line in log]
        upper.plot(steps, [line["loss"] for line in log], color="tab:blue", linewidth=0.7)
        upper.set(title=name, yscale="log")
        lower.plot(steps, [line["lr"] for line in log], color="tab:orange", linewidth=0.9)
        lower.set_xlabel("optimizer steps")
        for axes in (upper, lower):
            axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("loss")
    panels[1][0].set_ylabel("learning rate")
    return figure
