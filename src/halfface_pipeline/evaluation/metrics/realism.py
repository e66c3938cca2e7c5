"""Whether completions look real: distances between the set of completions and the set of real faces.

Each real face shares its known half with its completion, so the two sets are never of the same faces: real faces with
even numbers stand against completions of those with odd ones, and then the other way round. Real against real, of the
same numbers, is the floor: only the completions differ from it.

Intervals are those of a delete-a-group jackknife over faces (Kott 2001). A bootstrap would put copies of a face into a
set, which every one of these distances takes for information: it moves them away from their value.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from ..statistics import Estimate
from .distribution import NEAREST, checked, frechet_distance, kernel_distance, memorisation, neighbourhoods

GROUPS = 20
T_QUANTILE = 2.0930
"""97.5 % point of Student's t with GROUPS - 1 degrees of freedom."""
LEAST_FACES = 2 * GROUPS
REMEMBERED = ("truth", "nearest_training_face")
"""Rows that stand beside the model where its memory is tested: real faces, and copies."""
MEANINGS = {
    "frechet_distance": ("squared Frechet distance of Gaussians fitted to the features (Heusel et al. 2017)", "lower"),
    "kernel_distance": ("squared maximum mean discrepancy, kernel (x.y / D + 1)^3 (Binkowski et al. 2018)", "lower"),
    "precision": (f"share of completions within the {NEAREST}-neighbourhood of a real face", "higher"),
    "recall": (f"share of real faces within the {NEAREST}-neighbourhood of a completion", "higher"),
    "density": (f"mean number of {NEAREST}-neighbourhoods of real faces around a completion, over {NEAREST}", None),
    "coverage": (f"share of real faces with a completion in their {NEAREST}-neighbourhood", "higher"),
}


def set_distances(real: torch.Tensor, completed: torch.Tensor) -> torch.Tensor:
    """Every measure of `MEANINGS`, in its order, (6,) float64."""
    real, completed = checked(real, completed, least=NEAREST + 1)
    distances = frechet_distance(real, completed), kernel_distance(real, completed)
    return torch.tensor([*distances, *neighbourhoods(real, completed).values()], dtype=torch.float64)


def across_halves(real: torch.Tensor, completed: torch.Tensor) -> torch.Tensor:
    """Every measure between different faces: real ones with even numbers, completions with odd ones, and swapped.

    Args:
        real: Features of N faces, (N, D).
        completed: Features of a completion of each, (N, D); the real faces themselves give the floor.

    Returns:
        (6,) float64, the mean of the two.
    """
    return (set_distances(real[0::2], completed[1::2]) + set_distances(real[1::2], completed[0::2])) / 2


def jackknife(num_faces: int, statistic: Callable[[torch.Tensor], torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """A statistic of all faces, and what it is with each of `GROUPS` groups of neighbouring pairs left out.

    Args:
        num_faces: N, even.
        statistic: Takes the numbers of the faces that are there, sorted; gives (M,).

    Returns:
        (M,) and (GROUPS, M).
    """
    numbers = torch.arange(num_faces)
    group = numbers // 2 % GROUPS
    return statistic(numbers), torch.stack([statistic(numbers[group != left_out]) for left_out in range(GROUPS)])


def jackknife_estimates(values: torch.Tensor, without: torch.Tensor, num_faces: int) -> list[Estimate]:
    """Estimates with intervals from `jackknife`'s two results."""
    deviation = ((GROUPS - 1) / GROUPS * (without - without.mean(dim=0)).square().sum(dim=0)).sqrt()
    ends = values - T_QUANTILE * deviation, values + T_QUANTILE * deviation
    numbers = zip(values.tolist(), ends[0].tolist(), ends[1].tolist(), strict=True)
    return [Estimate(value, low, high, num_faces) for value, low, high in numbers]


def realism(
    truth: torch.Tensor,
    by_seed: Sequence[torch.Tensor],
    rows: Mapping[str, torch.Tensor],
    training: torch.Tensor | None = None,
    with_interval: Sequence[str] = ("truth", "exact"),
) -> dict[str, Any]:
    """Everything about sets of images.

    Args:
        truth: Features of the N true faces, (N, D).
        by_seed: Features of the first completion of each face, (N, D) for each seed.
        rows: What stands beside the model, (N, D) by name.
        training: Features of training faces, (T, D); none leaves memorisation out.
        with_interval: Which of the rows get intervals.

    Returns:
        The section `real` of metrics.json.

    Raises:
        ValueError: If there are fewer than `LEAST_FACES` faces, or features are not finite numbers.
    """
    if len(truth) < LEAST_FACES:
        raise ValueError(
            f"num_faces is {len(truth)}; distances between sets of images need at least {LEAST_FACES}, "
            f"{LEAST_FACES // 2} real and {LEAST_FACES // 2} completed"
        )
    num = len(truth) // 2 * 2  # as many real ones as completed ones
    truth = truth[:num].double()
    seeds = [features[:num].double() for features in by_seed]
    rows = {"truth": truth} | {name: features[:num].double() for name, features in rows.items()}

    def of_all(there: torch.Tensor) -> torch.Tensor:
        """All measures of the model, a seed after the other, and of the rows with intervals, (S + R, 6)."""
        parts = [*seeds, *(rows[name] for name in rows if name in with_interval)]
        return torch.stack([across_halves(truth[there], features[there]) for features in parts])

    values, without = jackknife(num, of_all)
    model, model_without = values[: len(seeds)].mean(dim=0), without[:, : len(seeds)].mean(dim=1)
    table = {"model": jackknife_estimates(model, model_without, num)}
    places = {name: len(seeds) + at for at, name in enumerate(name for name in rows if name in with_interval)}
    for name, features in rows.items():
        if name in places:
            table[name] = jackknife_estimates(values[places[name]], without[:, places[name]], num)
        else:
            numbers = across_halves(truth, features).tolist()
            table[name] = [Estimate(number, float("nan"), float("nan"), num) for number in numbers]
    floor = places["truth"]
    above = jackknife_estimates(model - values[floor], model_without - without[:, floor], num)
    remembered = {"model": seeds[0]} | {name: rows[name] for name in REMEMBERED if name in rows}
    return {
        "num_faces": num,
        "num_each": num // 2,
        "intervals": f"jackknife over faces, {GROUPS} groups left out in turn",
        "measures": {
            name: {
                "group": "real",
                "meaning": meaning,
                "better": better,
                "rows": {row: asdict(_bounded(name, estimates[place])) for row, estimates in table.items()},
                "above_floor": asdict(above[place]),
                "by_seed": values[: len(seeds), place].tolist(),
            }
            for place, (name, (meaning, better)) in enumerate(MEANINGS.items())
        },
        "memorisation": None
        if training is None
        else {
            "num_training": len(training),
            "num_held_out": num // 2,
            "rows": {
                name: asdict(memorisation(features[1::2], training, truth[0::2]))
                for name, features in remembered.items()
            },
        },
    }


def _bounded(name: str, estimate: Estimate) -> Estimate:
    """A share cannot be below 0 or above 1, and neither can the ends of its interval."""
    if name not in ("precision", "recall", "coverage"):
        return estimate
    return replace(estimate, low=max(0.0, estimate.low), high=min(1.0, estimate.high))
