"""Distances between two sets of images: features (N, D) and (M, D). Tables of distances are made a block of rows at a
time, so that memory grows with N and not with its square.
"""

from dataclasses import dataclass

import torch

from ..significance import PERMUTATIONS
from ..statistics import Estimate, interval

NEAREST = 5
"""The neighbour whose distance is the radius of a face's neighbourhood (Naeem et al. 2020)."""
ROWS_AT_ONCE = 1024
"""Rows of a table of distances that are in memory at once."""
NEIGHBOURS_KEPT = 128
"""Nearest faces of each completion that the test of memorisation looks at; beyond them hardly any is needed."""


def frechet_distance(real: torch.Tensor, completed: torch.Tensor) -> float:
    """Squared Frechet distance |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)) of two Gaussians (Dowson and Landau 1982).

    The trace of the root is the sum of the singular values of A B^T for centred features A = (N, D), B = (M, D) with
    S = A^T A / (N - 1): it needs no root of a matrix that is singular when there are fewer faces than dimensions.

    Args:
        real: (N, D).
        completed: (M, D).

    Returns:
        The distance, in squared units of the features.

    Raises:
        ValueError: If a set has fewer than 2 members, or the features do not fit or are not finite numbers.
    """
    real, completed = checked(real, completed, least=2)
    means = real.mean(dim=0), completed.mean(dim=0)
    scaled = [(x - mean) / (len(x) - 1) ** 0.5 for x, mean in zip((real, completed), means, strict=True)]
    total = sum(float(x.square().sum()) for x in scaled)
    if min(len(real), len(completed)) <= real.shape[1]:
        product = scaled[0] @ scaled[1].T
        product = product @ product.T if len(real) <= len(completed) else product.T @ product
    else:
        covariances = [x.T @ x for x in scaled]
        values, vectors = torch.linalg.eigh(covariances[0])
        root = vectors * values.clamp(min=0).sqrt() @ vectors.T
        product = root @ covariances[1] @ root
    trace = float(torch.linalg.eigvalsh(product).clamp(min=0).sqrt().sum())
    return max(0.0, float((means[0] - means[1]).square().sum()) + total - 2 * trace)


def kernel_distance(real: torch.Tensor, completed: torch.Tensor) -> float:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, unbiased: it can be below 0.

    Args:
        real: (N, D).
        completed: (M, D).

    Returns:
        The distance (Gretton et al. 2012, equation 3).

    Raises:
        ValueError: If a set has fewer than 2 members, or the features do not fit or are not finite numbers.
    """
    real, completed = checked(real, completed, least=2)

    def total(x: torch.Tensor, y: torch.Tensor) -> float:
        blocks = x.split(ROWS_AT_ONCE)
        return sum(float((block @ y.T / x.shape[1] + 1).pow(3).sum()) for block in blocks)

    def within(x: torch.Tensor) -> float:
        own = float((x.square().mean(dim=1) + 1).pow(3).sum())
        return (total(x, x) - own) / (len(x) * (len(x) - 1))

    return within(real) + within(completed) - 2 * total(real, completed) / (len(real) * len(completed))


def neighbourhoods(real: torch.Tensor, completed: torch.Tensor, nearest: int = NEAREST) -> dict[str, float]:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Args:
        real: (N, D).
        completed: (M, D).
        nearest: The neighbour whose distance is the radius of a neighbourhood.

    Returns:
        The four by name.

    Raises:
        ValueError: If a set has no such neighbour, or the features do not fit or are not finite numbers.
    """
    real, completed = checked(real, completed, least=nearest + 1)
    radii, own_radii = _radii(real, nearest), _radii(completed, nearest)
    around, covered, recalled = [], *torch.zeros(2, len(real), dtype=torch.bool)
    for place, block in enumerate(completed.split(ROWS_AT_ONCE)):
        apart = torch.cdist(block, real)
        inside = apart <= radii
        around.append(inside.sum(dim=1))
        covered |= inside.any(dim=0)
        first = place * ROWS_AT_ONCE
        recalled |= (apart <= own_radii[first : first + len(block), None]).any(dim=0)
    counts = torch.cat(around).double()
    return {
        "precision": float((counts > 0).double().mean()),
        "recall": float(recalled.double().mean()),
        "density": float(counts.mean() / nearest),
        "coverage": float(covered.double().mean()),
    }


def _radii(features: torch.Tensor, nearest: int) -> torch.Tensor:
    """Distance of each member to its n-th nearest other member, (N,)."""
    found = []
    for place, block in enumerate(features.split(ROWS_AT_ONCE)):
        apart = torch.cdist(block, features)
        rows = torch.arange(len(block))
        apart[rows, place * ROWS_AT_ONCE + rows] = torch.inf
        found.append(apart.kthvalue(nearest, dim=1).values)
    # The face that gives the radius lies within it, however the distance is rounded when it is taken from its side.
    return torch.cat(found) * (1 + 1e-9)


@dataclass(frozen=True)
class Memorisation:
    """Whether completions lie closer to training faces than to held-out ones.

    Attributes:
        to_training: Mean distance of a completion to the nearest training face.
        to_held_out: Mean distance to the nearest held-out face.
        ratio: Of the two, over the ratio that faces relabelled at random give; 1 without memorisation, below 1 with.
        p_value: How often faces relabelled at random give a ratio as small.
    """

    to_training: float
    to_held_out: float
    ratio: Estimate
    p_value: float


def memorisation(
    completed: torch.Tensor,
    training: torch.Tensor,
    held_out: torch.Tensor,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Memorisation:
    """Distances of completions to the nearest training and held-out faces, and a test that they differ.

    To a model that has memorised nothing, training faces and held-out faces are alike: which of them are called
    training faces does not matter. Relabelling them gives the distribution of the ratio for any numbers of the two.

    Args:
        completed: Features of completions, (N, D).
        training: Features of training faces, (T, D).
        held_out: Features of held-out faces, (M, D); none may be the face that a completion belongs to.
        permutations: Random relabellings.
        seed: Of the relabellings.

    Returns:
        The distances, over the root of D, and the test.

    Raises:
        ValueError: If there is no face, or the features do not fit or are not finite numbers.
    """
    completed, training = checked(completed, training, least=1)
    completed, held_out = checked(completed, held_out, least=1)
    pool, num_training = torch.cat([training, held_out]), len(training)
    kept = min(NEIGHBOURS_KEPT, len(pool))
    near, who, nearest = [], [], []
    for block in completed.split(ROWS_AT_ONCE):
        apart = torch.cdist(block, pool) * pool.shape[1] ** -0.5
        nearest.append(torch.stack([apart[:, :num_training].amin(dim=1), apart[:, num_training:].amin(dim=1)]))
        found = apart.topk(kept, dim=1, largest=False)
        near.append(found.values)
        who.append(found.indices)
    ordered, members = torch.cat(near), torch.cat(who)
    to_training, to_held_out = torch.cat(nearest, dim=1).mean(dim=1).tolist()

    def first(chosen: torch.Tensor) -> torch.Tensor:
        """Distance of the nearest chosen neighbour, the farthest kept where none is chosen; mean over completions."""
        place = torch.where(chosen.any(dim=1), chosen.byte().argmax(dim=1), kept - 1)
        return ordered.gather(1, place[:, None]).mean()

    generator, ratios = torch.Generator().manual_seed(seed), []
    for _ in range(permutations):
        labels = torch.zeros(len(pool), dtype=torch.bool)
        labels[torch.randperm(len(pool), generator=generator)[:num_training]] = True
        chosen = labels[members]
        ratios.append(first(chosen) / first(~chosen))
    by_chance, observed = torch.stack(ratios), to_training / to_held_out
    ((low, high),) = interval(by_chance[:, None])
    # Faces relabelled at random spread as the ratio itself does, which bootstrapping the completions alone would miss.
    ratio = Estimate(observed / float(by_chance.mean()), observed / high, observed / low, len(completed))
    p_value = (1 + int((by_chance <= observed).sum())) / (1 + permutations)
    return Memorisation(to_training, to_held_out, ratio, p_value)


def checked(first: torch.Tensor, second: torch.Tensor, least: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Both sets as float64; ValueError if they do not fit, are too small, or hold what is no finite number."""
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"features have shapes {tuple(first.shape)} and {tuple(second.shape)}; they must be (N, D) and (M, D)"
        )
    for features in (first, second):
        if len(features) < least:
            raise ValueError(f"a set has {len(features)} images; this measure needs at least {least}")
        if not bool(features.isfinite().all()):
            raise ValueError("features hold values that are not finite numbers")
    return first.double(), second.double()
