"""Distances between the set of completions and the set of real faces, and a test for copies of training faces.

Features are (N, D) and (M, D), float64. Each real face shares its known half with its completion, so the two sets are
never of the same faces: real faces with even numbers are compared with completions of those with odd numbers, and vice
versa. Real faces compared with real faces in the same way are the floor.

Intervals come from a delete-a-group jackknife over faces (Kott 2001). A bootstrap would put copies of a face into a
set, which biases all of these distances.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import scipy.stats
import torch

from ..statistics import LEVEL, NAN, PERMUTATIONS, Estimate, interval
from .registry import NEAREST, SET_METRICS

GROUPS = 20
MIN_FACES = 2 * GROUPS
ROWS_AT_ONCE = 1024
"""Rows of a distance matrix in memory at once, so that memory grows with N and not with its square."""
NEIGHBOURS_KEPT = 128
"""Nearest faces of each completion that the test for copies looks at; it rarely needs more."""
COMPARED = ("truth", "nearest_training_face")
"""Rows that are tested for copies next to the model: real faces, and halves of training faces."""
WITH_INTERVAL = ("truth", "exact")


def frechet_distance(real: torch.Tensor, completed: torch.Tensor) -> float:
    """Squared Frechet distance |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)) of two Gaussians (Dowson and Landau 1982).

    With centred features A = (N, D), B = (M, D) and S = A^T A / (N - 1), the trace of the root is the sum of the
    singular values of A B^T, which exists also for fewer faces than dimensions.
    """
    means = real.mean(dim=0), completed.mean(dim=0)
    a, b = ((x - mean) / (len(x) - 1) ** 0.5 for x, mean in zip((real, completed), means, strict=True))
    total = float(a.square().sum() + b.square().sum())
    # A factor R of A = Q R with orthonormal Q has the same singular values and at most D rows.
    a, b = (torch.linalg.qr(x, mode="r").R if len(x) > x.shape[1] else x for x in (a, b))
    product = a @ b.T
    product = product @ product.T if len(a) <= len(b) else product.T @ product
    trace = float(torch.linalg.eigvalsh(product).clamp(min=0).sqrt().sum())
    return max(0.0, float((means[0] - means[1]).square().sum()) + total - 2 * trace)


def kernel_distance(real: torch.Tensor, completed: torch.Tensor) -> float:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (Gretton et al. 2012, equation 3).

    The estimate is unbiased and can be below 0.
    """

    def total(x: torch.Tensor, y: torch.Tensor) -> float:
        return sum(float((block @ y.T / x.shape[1] + 1).pow(3).sum()) for block in x.split(ROWS_AT_ONCE))

    def within(x: torch.Tensor) -> float:
        diagonal = float((x.square().mean(dim=1) + 1).pow(3).sum())
        return (total(x, x) - diagonal) / (len(x) * (len(x) - 1))

    return within(real) + within(completed) - 2 * total(real, completed) / (len(real) * len(completed))


def neighbourhoods(real: torch.Tensor, completed: torch.Tensor, nearest: int = NEAREST) -> dict[str, float]:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020), by name."""
    radii, own_radii = _radii(real, nearest), _radii(completed, nearest)
    around, covered, recalled = [], *torch.zeros(2, len(real), dtype=torch.bool)
    for block, block_radii in zip(completed.split(ROWS_AT_ONCE), own_radii.split(ROWS_AT_ONCE), strict=True):
        apart = torch.cdist(block, real)
        inside = apart <= radii
        around.append(inside.sum(dim=1))
        covered |= inside.any(dim=0)
        recalled |= (apart <= block_radii[:, None]).any(dim=0)
    counts = torch.cat(around).double()
    return {
        "precision": float((counts > 0).double().mean()),
        "recall": float(recalled.double().mean()),
        "density": float(counts.mean() / nearest),
        "coverage": float(covered.double().mean()),
    }


def _radii(features: torch.Tensor, nearest: int) -> torch.Tensor:
    """Distance of each member to its n-th nearest other member, (N,)."""
    # Each member is its own nearest; the tolerance lets the n-th neighbour itself count.
    blocks = (torch.cdist(block, features) for block in features.split(ROWS_AT_ONCE))
    return torch.cat([apart.kthvalue(nearest + 1, dim=1).values for apart in blocks]) * (1 + 1e-9)


def memorisation(
    completed: torch.Tensor, training: torch.Tensor, held_out: torch.Tensor, permutations: int = PERMUTATIONS
) -> dict[str, Any]:
    """Tests whether completions (N, D) are closer to training faces (T, D) than to held-out faces (M, D).

    None of the held-out faces may be the face of a completion. Without memorisation, training and held-out faces are
    exchangeable, so that permuting these labels gives the null distribution of the ratio of the two distances,
    whatever the numbers of faces. The result has both distances, over the root of D, their `ratio` over that expected
    by chance, and the p-value of a ratio this small.
    """
    pool, num_training = torch.cat([training, held_out]), len(training)
    kept = min(NEIGHBOURS_KEPT, len(pool))
    found, nearest = [], []
    for block in completed.split(ROWS_AT_ONCE):
        apart = torch.cdist(block, pool) * pool.shape[1] ** -0.5
        nearest.append(torch.stack([apart[:, :num_training].amin(dim=1), apart[:, num_training:].amin(dim=1)]))
        found.append(apart.topk(kept, dim=1, largest=False))
    ordered, members = (torch.cat(parts) for parts in zip(*found, strict=True))
    to_training, to_held_out = torch.cat(nearest, dim=1).mean(dim=1).tolist()

    def to_nearest(chosen: torch.Tensor) -> torch.Tensor:
        """Mean distance to the nearest chosen neighbour, or to the farthest kept where none is chosen."""
        first = torch.where(chosen.any(dim=1), chosen.byte().argmax(dim=1), kept - 1)
        return ordered.gather(1, first[:, None]).mean()

    generator, ratios = torch.Generator().manual_seed(0), []
    for _ in range(permutations):
        is_training = torch.zeros(len(pool), dtype=torch.bool)
        is_training[torch.randperm(len(pool), generator=generator)[:num_training]] = True
        chosen = is_training[members]
        ratios.append(to_nearest(chosen) / to_nearest(~chosen))
    by_chance, observed = torch.stack(ratios), to_training / to_held_out
    low, high = interval(by_chance[:, None])[:, 0].tolist()
    # The null distribution is as wide as that of the ratio; a bootstrap of the completions alone would be narrower.
    ratio = Estimate(observed / float(by_chance.mean()), observed / high, observed / low, len(completed))
    p_value = (1 + int((by_chance <= observed).sum())) / (1 + permutations)
    return {"to_training": to_training, "to_held_out": to_held_out, "ratio": asdict(ratio), "p_value": p_value}


def across_halves(real: torch.Tensor, completed: torch.Tensor) -> torch.Tensor:
    """All of `SET_METRICS`, (6,) float64, between different faces: even against odd numbers, and vice versa."""

    def all_metrics(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        values = frechet_distance(x, y), kernel_distance(x, y), *neighbourhoods(x, y).values()
        return torch.tensor(values, dtype=torch.float64)

    return (all_metrics(real[0::2], completed[1::2]) + all_metrics(real[1::2], completed[0::2])) / 2


def jackknife(num_faces: int, statistic: Callable[[torch.Tensor], torch.Tensor]) -> list[list[Estimate]]:
    """Estimates of a statistic (R, M) of face indices; its intervals come from leaving out groups of pairs."""
    indices = torch.arange(num_faces)
    group = indices // 2 % GROUPS
    values = statistic(indices)
    without = torch.stack([statistic(indices[group != left_out]) for left_out in range(GROUPS)])
    deviation = ((GROUPS - 1) / GROUPS * (without - without.mean(dim=0)).square().sum(dim=0)).sqrt()
    width = float(scipy.stats.t.ppf((1 + LEVEL) / 2, GROUPS - 1)) * deviation
    ends = torch.stack([values, values - width, values + width], dim=-1)
    return [[Estimate(value, low, high, num_faces) for value, low, high in row] for row in ends.tolist()]


def set_distances(
    rows: Mapping[str, torch.Tensor],
    by_seed: Sequence[torch.Tensor],
    training: torch.Tensor | None = None,
) -> dict[str, Any]:
    """The section `real` of metrics.json: all metrics of sets, or the reason below `MIN_FACES` faces.

    Features are (N, D): of the true faces (`truth`) and the baselines by row, and of the first completion of each face
    per seed. Those of training faces are (T, D); None leaves the test for copies out.
    """
    if len(rows["truth"]) < MIN_FACES:
        sizes = f"at least {MIN_FACES}, {MIN_FACES // 2} real and {MIN_FACES // 2} completed"
        return {"left_out": f"num_faces is {len(rows['truth'])}; distances between sets of images need {sizes}"}
    num = len(rows["truth"]) // 2 * 2
    rows = {name: features[:num].double() for name, features in rows.items()}
    truth, seeds = rows["truth"], [features[:num].double() for features in by_seed]
    with_interval = [name for name in WITH_INTERVAL if name in rows]

    def statistic(some: torch.Tensor) -> torch.Tensor:
        floor, *others = (across_halves(truth[some], rows[name][some]) for name in with_interval)
        of_seeds = torch.stack([across_halves(truth[some], features[some]) for features in seeds])
        model = of_seeds.mean(dim=0)
        return torch.stack([model, model - floor, floor, *others, *of_seeds])

    model, above, *others = jackknife(num, statistic)
    found = dict(zip(with_interval, others[: len(with_interval)], strict=True))
    for name, features in rows.items():
        if name not in with_interval:
            found[name] = [Estimate(value, NAN, NAN, num) for value in across_halves(truth, features).tolist()]
    return {
        "num_faces": num,
        "num_each": num // 2,
        "intervals": f"jackknife over faces, {GROUPS} groups left out in turn",
        "measures": {
            name: {
                "group": metric.group,
                "meaning": metric.description,
                "better": metric.better,
                "rows": {row: asdict(_bounded(name, each[at])) for row, each in ({"model": model} | found).items()},
                "above_floor": asdict(above[at]),
                "by_seed": [each[at].value for each in others[len(with_interval) :]],
            }
            for at, (name, metric) in enumerate(SET_METRICS.items())
        },
        "memorisation": None if training is None else _copies(rows, seeds[0], training.double()),
    }


def _copies(rows: Mapping[str, torch.Tensor], completed: torch.Tensor, training: torch.Tensor) -> dict[str, Any]:
    """The test for copies, of the model and of `COMPARED`: odd faces are compared with even ones that are held out."""
    tested = {"model": completed} | {name: rows[name] for name in COMPARED if name in rows}
    held_out = rows["truth"][0::2]
    found = {name: memorisation(features[1::2], training, held_out) for name, features in tested.items()}
    return {"num_training": len(training), "num_held_out": len(held_out), "rows": found}


def _bounded(name: str, estimate: Estimate) -> Estimate:
    """Clips the interval of a share to [0, 1]."""
    if name not in ("precision", "recall", "coverage"):
        return estimate
    return replace(estimate, low=max(0.0, estimate.low), high=min(1.0, estimate.high))
