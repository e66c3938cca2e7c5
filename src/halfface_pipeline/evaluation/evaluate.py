"""Completes held-out halves, measures the result beside its floor and ceiling, and writes it down."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from tqdm.auto import tqdm

from ..config import DataConfig
from ..data.dataset import load_images
from ..data.procedural import draw_factors, redraw, render
from ..data.sources import PROCEDURAL_EVAL_START
from ..halves import split, turn
from ..pictures import known_halves
from ..pipeline import HalfFaceInpaintPipeline
from ..plots import sheet
from . import measures

NUM_REDRAWS = 32
"""Exact redraws of each procedural face that tell its determined pixels."""
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
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    if num_faces < 2:
        raise ValueError(f"num_faces is {num_faces}; another face's half needs at least 2")
    faces = load_images(data, "eval")
    if len(faces) < num_faces:
        raise ValueError(f"num_faces is {num_faces}; the held-out part has {len(faces)}")
    images = torch.from_numpy(np.array(faces.images[:num_faces])).permute(0, 3, 1, 2)
    known, truth = split(images, pipe.config.hidden_half)
    halves = known_halves(faces.images[:num_faces], pipe.config.hidden_half)

    completed: list[PIL.Image.Image] = []
    drawn: list[torch.Tensor] = []
    generator = torch.Generator().manual_seed(seed)
    pipe.set_progress_bar_config(disable=True)
    per_call = max(1, batch_size // num_completions)
    with tqdm(total=num_faces * num_completions, desc="completing", unit="face") as bar:
        for start in range(0, num_faces, per_call):
            result = pipe(
                halves[start : start + per_call],
                num_completions=num_completions,
                num_inference_steps=num_inference_steps,
                generator=generator,
            )
            completed += result.images
            drawn += [torch.tensor(np.array(half)).permute(2, 0, 1) for half in result.hidden_halves]
            bar.update(len(result.images))
    hidden = turn(torch.stack(drawn), pipe.config.hidden_half).unflatten(0, (num_faces, num_completions))

    rows = {"model": hidden, "floor": truth[:, None], "ceiling": truth.roll(1, 0)[:, None]}
    determined = None
    if data.source == "procedural" and pipe.config.hidden_half == "bottom":
        redraws = exact_redraws(data, num_faces, NUM_REDRAWS + num_completions)
        determined = measures.determined_pixels(redraws[:, :NUM_REDRAWS])
        rows["floor"] = redraws[:, NUM_REDRAWS:]
    scores = {name: _scores(row / 255, known / 255, truth / 255, determined) for name, row in rows.items()}
    metrics = {
        "num_faces": num_faces,
        "num_completions": num_completions,
        "scheduler": type(pipe.scheduler).__name__,
        "num_inference_steps": num_inference_steps,
        "seed": seed,
        "data": {"source": data.source, "height": data.height, "width": data.width, "fingerprint": faces.fingerprint},
        "value_range": [0, 1],
        "measures": {
            name: {"meaning": MEANINGS[name], **{row: scores[row].get(name) for row in rows}}
            for name in scores["model"]
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    (out / "metrics.md").write_text(as_markdown(metrics))
    shown = min(8, num_faces)
    originals = [PIL.Image.fromarray(face) for face in faces.images[:shown]]
    sheet(originals, completed[: shown * num_completions]).save(out / "completions.png")
    return metrics


def exact_redraws(data: DataConfig, num_faces: int, num_redraws: int, seed: int = 0) -> torch.Tensor:
    """Exact samples of p(bottom | top) for the held-out procedural faces.

    Args:
        data: Of the `procedural` source.
        num_faces: The first so many held-out faces.
        num_redraws: Samples of each.
        seed: Of the free factors.

    Returns:
        Bottom halves, (num_faces, num_redraws, 3, H/2, W) uint8.
    """
    factors = draw_factors(data.seed, np.arange(PROCEDURAL_EVAL_START, PROCEDURAL_EVAL_START + num_faces))
    generator = np.random.default_rng(seed)
    drawn = [render(redraw(factors, generator), data.height, data.width) for _ in range(num_redraws)]
    return torch.from_numpy(np.stack(drawn, axis=1)[:, :, data.height // 2 :]).permute(0, 1, 4, 2, 3)


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


def _scores(
    hidden: torch.Tensor, known: torch.Tensor, truth: torch.Tensor, determined: torch.Tensor | None
) -> dict[str, float]:
    """Mean of every measure that can be taken, hidden halves (N, K, 3, h, w)."""
    scores = {}
    if determined is not None:
        scores["determined_pixel_error"] = measures.determined_pixel_error(hidden, truth, determined)
    scores["residual_noise"] = measures.residual_noise(hidden)
    scores["seam_gradient"] = measures.seam_gradient(known[:, None], hidden)
    scores["seam_colour_difference"] = measures.seam_colour_difference(known[:, None], hidden)
    if hidden.shape[1] > 1:
        scores["spread"] = measures.spread(hidden)
    return {name: float(values.mean()) for name, values in scores.items()}
