"""Which measure sees what: exact samples of procedural faces, spoilt one way at a time; prints Markdown, then JSON.

python benchmarks/what_measures_see.py [NUM_FACES] [FEATURES] [FEATURES_PATH]
"""

import json
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data.images import load_images
from halfface_pipeline.evaluation.dataset import make_batch
from halfface_pipeline.evaluation.features import load_features
from halfface_pipeline.evaluation.measure import PreparedBatch
from halfface_pipeline.evaluation.metrics.distribution import set_distances
from halfface_pipeline.evaluation.metrics.registry import SET_METRICS
from halfface_pipeline.evaluation.metrics.scoring import truth_ranks
from halfface_pipeline.evaluation.statistics import exchange_test, mean_estimates, uniform_ranks_test

HEIGHT, WIDTH, K = 48, 40, 4
SHOWN = (
    *("energy_score", "distance_to_truth", "best_of_k_distance", "determined_pixel_error", "seam_gradient"),
    *("seam_colour_difference", "colour_error_skin", "colour_error_hair", "lightness_shift_hair", "hue_shift_skin"),
    *("spread", "pairwise_distance", "residual_noise", "sharpness"),
)


def blurred(hidden: torch.Tensor) -> torch.Tensor:
    """Binomial filter of 3 x 3 pixels."""
    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None] * kernel / 16).expand(3, 1, 3, 3)
    padded = F.pad(hidden.flatten(0, 1), (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, kernel, groups=3).unflatten(0, hidden.shape[:2])


def noisy(hidden: torch.Tensor) -> torch.Tensor:
    """White noise of standard deviation 0.03."""
    return hidden + 0.03 * torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0))


def coloured(hidden: torch.Tensor) -> torch.Tensor:
    """Red raised by 0.05, blue lowered by as much."""
    return hidden + torch.tensor([0.05, 0.0, -0.05]).view(3, 1, 1)


def swapped(hidden: torch.Tensor) -> torch.Tensor:
    """The completions of the face two before, which is never in the set of real faces that they are compared with."""
    return hidden.roll(2, 0)


def unconditional(hidden: torch.Tensor) -> torch.Tensor:
    """The k-th completion from the 2k-th face before: varied, and of other faces."""
    return torch.stack([hidden[:, place].roll(2 * place + 2, 0) for place in range(hidden.shape[1])], dim=1)


SPOILT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "exact samples": lambda hidden: hidden,
    "blur": blurred,
    "noise": noisy,
    "lighter by 0.05": lambda hidden: hidden + 0.05,
    "redder": coloured,
    "swapped": swapped,
    "unconditional": unconditional,
    "one repeated": lambda hidden: hidden[:, :1].expand_as(hidden),
    "mean repeated": lambda hidden: hidden.mean(dim=1, keepdim=True).expand_as(hidden),
    "half the spread": lambda hidden: (hidden + hidden.mean(dim=1, keepdim=True)) / 2,
}
"""From exact samples (N, K, 3, h, w), from 0 to 1, to spoilt ones; values beyond are clipped."""


def rows(num_faces: int, features: str = "pixels", path: str | None = None) -> dict[str, dict[str, dict[str, float]]]:
    """Every measure of every kind of completion.

    Args:
        num_faces: Held-out procedural faces.
        features: Name of the feature network.
        path: Where its weights lie.

    Returns:
        By kind and measure: value, low and high; p-values of the rank histograms and of the seam test.
    """
    data = DataConfig(height=HEIGHT, width=WIDTH, num_eval_images=num_faces)
    faces = load_images(data, "eval", progress=False)
    trial = make_batch(faces, "bottom", data, range(num_faces), K)
    assert trial.exact is not None
    prepared, table = PreparedBatch(trial, load_features(features, path)), {}
    for kind, spoil in SPOILT.items():
        hidden = (spoil(trial.exact / 255).clamp(0, 1) * 255).round().to(torch.uint8)
        values, apart, drawn = prepared.measure(hidden)
        numbers = prepared.ranked(hidden, apart)
        estimates = mean_estimates(values)
        table[kind] = {
            name: {"value": estimate.value, "low": estimate.low, "high": estimate.high}
            for name, estimate in estimates.items()
        }
        for name, each in numbers.items():
            ranks = truth_ranks(each[:, 0], each[:, 1:])
            table[kind][f"rank p: {name}"] = {"value": uniform_ranks_test(ranks, K + 1).p_value}
        sets = set_distances({"truth": prepared.truth_features}, [drawn])
        for name, measure in sets["measures"].items():
            table[kind][name] = measure["rows"]["model"]
        gradients = numbers["seam_gradient"]
        table[kind]["seam test p"] = {"value": exchange_test(gradients[:, 0], gradients[:, 1:]).p_value}
    return table


def as_markdown(table: dict[str, dict[str, dict[str, float]]]) -> str:
    """Measures down, kinds across; bold where the interval leaves out the value of exact samples, or p < 0.01."""
    exact = table["exact samples"]
    lines = ["| measure | " + " | ".join(table) + " |", "| --- " * (len(table) + 1) + "|"]
    for name in (*SHOWN, *SET_METRICS, *(name for name in exact if " p" in name)):
        cells = []
        for kind, values in table.items():
            entry = values[name]
            seen = entry["value"] < 0.01
            if "low" in entry:
                seen = kind != "exact samples" and not entry["low"] <= exact[name]["value"] <= entry["high"]
            shown = "< 0.001" if "low" not in entry and entry["value"] < 0.001 else f"{entry['value']:.3f}"
            shown = f"{entry['value']:.3g}" if name in SET_METRICS else shown
            cells.append(f"**{shown}**" if seen else shown)
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table for 256 faces, or as many as are asked for."""
    num_faces = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    features = sys.argv[2] if len(sys.argv) > 2 else "pixels"
    table = rows(num_faces, features, sys.argv[3] if len(sys.argv) > 3 else None)
    print(as_markdown(table))
    print(json.dumps({"benchmark": "what_measures_see", "num_faces": num_faces, "features": features, "table": table}))


if __name__ == "__main__":
    main()
