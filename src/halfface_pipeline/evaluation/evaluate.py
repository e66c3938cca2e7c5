"""Completes held-out halves, measures the result beside its floor and ceiling, and writes it down."""

import json
from pathlib import Path
from typing import Any

from ..config import DataConfig
from ..pipeline import HalfFaceInpaintPipeline
from ..plots import sheet
from . import measures
from .trials import NUM_REDRAWS, complete, load_trial, scores

MEANINGS = {
    "determined_pixel_error": f"mean absolute error over pixels that do not vary across {NUM_REDRAWS} exact redraws",
    "residual_noise": "standard deviation of white noise left in the completion",
    "seam_gradient": "mean absolute difference of the two rows at the seam",
    "seam_colour_difference": f"column by column, mean colour of {measures.SEAM_ROWS} rows above and below the seam",
    "spread": "standard deviation of a pixel among the completions of one half",
}


def evaluate(
    pipe: HalfFaceInpaintPipeline,
    data: DataConfig,
    out: Path,
    num_faces: int = 64,
    num_completions: int = 4,
    num_inference_steps: int = 20,
    seed: int = 0,
    batch_size: int = 32,
) -> dict[str, Any]:
    """Completes held-out faces and writes metrics.json, metrics.md and completions.png.

    The floor is what the truth itself scores: the real halves, and for procedural faces exact redraws of them. The
    ceiling is another face's half, put where it does not belong.

    Args:
        pipe: The model, with the sampler to use.
        data: Where the held-out faces come from; its size must be the model's.
        out: Folder to write to.
        num_faces: Held-out faces.
        num_completions: Completions of each, at least 2.
        num_inference_steps: Denoising steps.
        seed: Of the completions' noise.
        batch_size: Completions computed at once.

    Returns:
        What metrics.json holds.

    Raises:
        ValueError: If there are too few faces or completions.
    """
    if num_completions < 2:
        raise ValueError(f"num_completions is {num_completions}; the spread needs at least 2")
    trial = load_trial(pipe, data, num_faces, num_completions)
    completed, hidden = complete(pipe, trial, num_completions, num_inference_steps, seed, batch_size)
    truth = trial.truth[:, None]
    rows = {"model": hidden, "floor": truth if trial.exact is None else trial.exact, "ceiling": truth.roll(1, 0)}
    taken = {name: scores(trial, row) for name, row in rows.items()}
    metrics = {
        "num_faces": num_faces,
        "num_completions": num_completions,
        "scheduler": type(pipe.scheduler).__name__,
        "num_inference_steps": num_inference_steps,
        "seed": seed,
        "data": {"source": data.source, "height": data.height, "width": data.width, "fingerprint": trial.fingerprint},
        "value_range": [0, 1],
        "measures": {
            name: {"meaning": MEANINGS[name], **{row: taken[row].get(name) for row in rows}} for name in taken["model"]
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    (out / "metrics.md").write_text(as_markdown(metrics))
    shown = min(8, num_faces)
    sheet(trial.originals[:shown], completed[: shown * num_completions]).save(out / "completions.png")
    return metrics


def as_markdown(metrics: dict[str, Any]) -> str:
    """The measures as a table, each beside its floor and its ceiling."""
    head = (
        f"{metrics['num_faces']} held-out halves completed {metrics['num_completions']} times each, "
        f"{metrics['scheduler']}, {metrics['num_inference_steps']} steps, seed {metrics['seed']}.\n\n"
        "| measure | model | floor (truth) | ceiling (another face) | meaning, on the scale from 0 to 1 |\n"
        "| --- | --- | --- | --- | --- |\n"
    )
    lines = []
    for name, measure in metrics["measures"].items():
        cells = ["" if measure[row] is None else f"{measure[row]:.4f}" for row in ("model", "floor", "ceiling")]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} | {measure['meaning']} |\n")
    return head + "".join(lines)
