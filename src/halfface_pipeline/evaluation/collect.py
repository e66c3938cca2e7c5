"""Every measure of every face: the faces are gone through a few at a time, and only numbers are kept."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from tqdm.auto import tqdm

from ..config.schema import DataConfig
from ..data.images import ImageSet
from ..inference.speed import return_freed_memory
from ..remote_code.halves import join
from .baselines import NearestTraining, mean_completion, mirrored, other_half
from .cache import Drawn
from .factors import CLASSES, draw_templates, labels_of, read_factors
from .features import FeatureNetwork
from .metrics import pixel as measures
from .metrics.colour import colour_scores, lightness_above, procedural_regions, seam_regions, to_lab
from .metrics.scoring import Distances, distances, truth_ranks
from .probes import Readers
from .trials import EvaluationBatch, scores_per_face, trial_of

FACES_AT_ONCE = 64
"""Faces whose pixels are in memory at once."""
Draw = Callable[[EvaluationBatch, int, int], Drawn]
"""Gives the completions of a trial's faces; further arguments are the first face's number and the seed."""
RANKED = {
    "lightness": "mean lightness L* of the hidden half",
    "seam_gradient": "mean absolute difference of the two rows at the seam",
    "sharpness": "root mean square of the Laplacian",
    "distance_to_others": "mean feature distance to the other members",
}
"""Numbers by which the truth is ranked among its completions."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A trial with what all measures of its halves share.

    Attributes:
        trial: n faces.
        features: The feature network.
        known_lab: Known halves in CIELAB, (n, 3, h, w).
        truth_lab: Hidden halves in CIELAB, (n, 3, h, w).
        truth_features: Of the whole faces, (n, D).
        regions: Masks below the seam by name, (n, h, w).
        hair_lightness: L* of the hair in the known half, (n,); NaN where none is seen.
        readers: What reads age and the like off features; none if nothing is to be read.
    """

    trial: EvaluationBatch
    features: FeatureNetwork
    known_lab: torch.Tensor
    truth_lab: torch.Tensor
    truth_features: torch.Tensor
    regions: dict[str, torch.Tensor]
    hair_lightness: torch.Tensor
    readers: Readers | None = None


@dataclass(eq=False)
class Collected:
    """What was read off N faces.

    Attributes:
        rows: By row (model, truth, exact, ...) and measure, (N,) each, means over completions and seeds.
        by_seed: The same for the model's row, one for each seed.
        ranks: By number ranked, (N,) ranks of the truth among the completions of the first seed.
        seam_gradients: Of the truth (N,) and of the completions of the first seed (N, K).
        factors: Classes of the free factors by row and factor, (N, K or 1): read off `model` and `exact`, and of the
            truth as they are (`truth`) and as they are read (`truth_read`).
        hair_lightness: L* of the hair in the known half, (N,); NaN where none is seen.
        features: Of whole faces, (N, D) by row, with the first exact sample; the model's are `seed_features`.
        seed_features: Of the first completion of each face, (N, D) for each seed.
        known_features: Of the known halves beside their mirror image, (N, D), where something is to be read.
        visible_kept: (N,) whether all visible pixels came back bit for bit.
    """

    rows: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    by_seed: list[dict[str, torch.Tensor]] = field(default_factory=list)
    ranks: dict[str, torch.Tensor] = field(default_factory=dict)
    seam_gradients: tuple[torch.Tensor, torch.Tensor] = field(default_factory=lambda: (torch.empty(0),) * 2)
    factors: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    hair_lightness: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    features: dict[str, torch.Tensor] = field(default_factory=dict)
    seed_features: list[torch.Tensor] = field(default_factory=list)
    known_features: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    visible_kept: torch.Tensor = field(default_factory=lambda: torch.empty(0))


def collect(
    faces: ImageSet,
    data: DataConfig,
    hidden_half: str,
    num_faces: int,
    num_completions: int,
    draw: Draw,
    features: FeatureNetwork,
    seeds: range = range(1),
    nearest: NearestTraining | None = None,
    faces_at_once: int = FACES_AT_ONCE,
    progress: bool = True,
    readers: Readers | None = None,
) -> Collected:
    """Takes every measure of every face, of the model's completions and of what they are held against.

    Args:
        faces: The held-out faces.
        data: Where they come from.
        hidden_half: The half that is hidden.
        num_faces: N.
        num_completions: K.
        draw: Gives completions.
        features: The network whose features distances are taken between.
        seeds: Of the completions; each draws K anew.
        nearest: Training faces to search; none leaves that row out.
        faces_at_once: Faces completed in one call of `draw`.
        progress: Show a bar.
        readers: What reads age and the like; none reads nothing.

    Returns:
        The numbers.
    """
    parts: list[Collected] = []
    with tqdm(total=num_faces * len(seeds), desc="completing", unit="face", disable=not progress) as bar:
        for start in range(0, num_faces, FACES_AT_ONCE):
            rows = range(start, min(start + FACES_AT_ONCE, num_faces))
            trial = trial_of(faces, hidden_half, data, rows, num_completions)
            drawn = []
            for seed in seeds:
                pieces = []
                for first in range(0, len(rows), faces_at_once):
                    piece = part_of(trial, range(first, min(first + faces_at_once, len(rows))))
                    pieces.append(draw(piece, start + first, seed))
                    bar.update(len(piece.images))
                drawn.append(Drawn(torch.cat([p.hidden for p in pieces]), torch.cat([p.visible_kept for p in pieces])))
            references = {"other_face": other_half(faces, hidden_half, rows, num_faces)}
            if nearest is not None:
                references["nearest_training_face"] = nearest.half(trial.known)
            parts.append(_measure(prepare(trial, features, readers), drawn, references, start))
            return_freed_memory()
    return _together(parts)


def part_of(trial: EvaluationBatch, rows: range) -> EvaluationBatch:
    """Some of a trial's faces, without the exact samples."""
    some = slice(rows.start, rows.stop)
    return EvaluationBatch(trial.images[some], trial.hidden_half, trial.known[some], trial.truth[some])


def prepare(trial: EvaluationBatch, features: FeatureNetwork, readers: Readers | None = None) -> Prepared:
    """Colours, regions and features of a trial's true faces."""
    known_lab, truth_lab = to_lab(trial.known / 255), to_lab(trial.truth / 255)
    height, width = trial.images.shape[1:3]
    if trial.factors is not None and trial.determined is not None:
        regions = procedural_regions(trial.factors, trial.determined, height, width)
        lightness = to_lab(torch.from_numpy(trial.factors.hair)[..., None, None])[:, 0, 0, 0]
    else:
        regions = seam_regions(known_lab, trial.truth.shape[-2], upright=trial.hidden_half == "bottom")
        lightness = lightness_above(known_lab, regions.get("hair_like"))
    whole = torch.from_numpy(trial.images).permute(0, 3, 1, 2)
    return Prepared(trial, features, known_lab, truth_lab, features(whole), regions, lightness, readers)


def measure_halves(
    prepared: Prepared, hidden: torch.Tensor
) -> tuple[dict[str, torch.Tensor], Distances, torch.Tensor]:
    """Every measure of some hidden halves.

    Args:
        prepared: The faces.
        hidden: (n, K, 3, h, w) uint8 in the turned frame.

    Returns:
        (n,) for each measure, means over the K; all distances of features; features of the first of the K, (n, D).
    """
    trial = prepared.trial
    values = scores_per_face(trial, hidden)
    values["sharpness"] = measures.sharpness(hidden / 255).mean(dim=1)
    known = trial.known[:, None].expand(-1, hidden.shape[1], -1, -1, -1)
    whole = join(known.flatten(0, 1), hidden.flatten(0, 1), trial.hidden_half)
    features = prepared.features(whole).unflatten(0, hidden.shape[:2])
    apart = distances(prepared.truth_features, features)
    values |= {
        "energy_score": apart.energy_score,
        "distance_to_truth": apart.to_truth.mean(dim=1),
        "best_of_k_distance": apart.best,
    }
    if hidden.shape[1] > 1:
        values["pairwise_distance"] = apart.pairwise
    if prepared.readers is not None:
        values |= prepared.readers.shifts(features, prepared.truth_features)
    lab = to_lab(hidden / 255)
    colours = colour_scores(prepared.known_lab, lab, prepared.truth_lab, prepared.regions)
    return values | colours, apart, features[:, 0].clone()


def _measure(prepared: Prepared, drawn: list[Drawn], references: dict[str, torch.Tensor], start: int) -> Collected:
    trial, found = prepared.trial, Collected(hair_lightness=prepared.hair_lightness)
    for number, completions in enumerate(drawn):
        values, apart, features = measure_halves(prepared, completions.hidden)
        found.by_seed.append(values)
        found.seed_features.append(features)
        if number == 0:
            numbers = ranked_numbers(prepared, completions.hidden, apart)
            found.ranks = {name: truth_ranks(each[:, 0], each[:, 1:], start) for name, each in numbers.items()}
            found.seam_gradients = numbers["seam_gradient"][:, 0], numbers["seam_gradient"][:, 1:]
    found.rows["model"] = _mean(found.by_seed)
    beside = {"truth": trial.truth[:, None]} | ({} if trial.exact is None else {"exact": trial.exact}) | references
    for name, halves in beside.items():
        found.rows[name], _, found.features[name] = measure_halves(prepared, halves)
    means = [measure_halves(prepared, mean_completion(completions.hidden)) for completions in drawn]
    found.rows["mean_completion"] = _mean([values for values, _, _ in means])
    found.features["mean_completion"] = means[0][2]
    if prepared.readers is not None:
        found.known_features = prepared.features(mirrored(trial.known, trial.hidden_half))
        found.rows["matched_truth"] = _shifts_of_matched_truth(prepared, drawn[0].hidden, start)
    found.visible_kept = torch.stack([completions.visible_kept.all(dim=1) for completions in drawn]).all(dim=0)
    if trial.factors is not None and trial.exact is not None:
        height, width = trial.images.shape[1:3]
        templates = draw_templates(trial.factors, height, width, seed=start)
        hidden = torch.cat([completions.hidden for completions in drawn], dim=1)
        found.factors = {"model": read_factors(templates, hidden), "exact": read_factors(templates, trial.exact)}
        truth = labels_of(trial.factors)
        found.factors["truth"] = {name: torch.from_numpy(np.asarray(truth[name]))[:, None] for name in CLASSES}
        found.factors["truth_read"] = read_factors(templates, trial.truth[:, None])
    return found


def _shifts_of_matched_truth(prepared: Prepared, hidden: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
    """What is read off the truth made as noisy and as smooth as its completions: shifts that faults alone make."""
    assert prepared.readers is not None
    trial, drawn = prepared.trial, hidden / 255
    noisy = measures.as_noisy_as(trial.truth / 255, measures.residual_noise(drawn).mean(dim=1), seed)
    matched = measures.as_sharp_as(noisy, measures.sharpness(drawn).mean(dim=1))
    pixels = (matched.clamp(0, 1) * 255).round().to(torch.uint8)
    features = prepared.features(join(trial.known, pixels, trial.hidden_half))
    return prepared.readers.shifts(features[:, None], prepared.truth_features)


def ranked_numbers(prepared: Prepared, hidden: torch.Tensor, apart: Distances) -> dict[str, torch.Tensor]:
    """The numbers of `RANKED` for the truths and their completions.

    Args:
        prepared: The faces.
        hidden: Completions, (n, K, 3, h, w) uint8 in the turned frame.
        apart: Their distances in feature space.

    Returns:
        (n, K + 1) each, the truth first.
    """
    trial = prepared.trial
    together = torch.cat([trial.truth[:, None], hidden], dim=1) / 255
    return {
        "lightness": to_lab(together)[:, :, 0].mean(dim=(-2, -1)),
        "seam_gradient": measures.seam_gradient(trial.known[:, None] / 255, together),
        "sharpness": measures.sharpness(together),
        "distance_to_others": apart.eccentricity,
    }


def _mean(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([part[name] for part in parts]).mean(dim=0) for name in parts[0]}


def _together(parts: list[Collected]) -> Collected:
    def joined(tables: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        return {name: torch.cat([table[name] for table in tables]) for name in tables[0]}

    first = parts[0]
    return Collected(
        rows={row: joined([part.rows[row] for part in parts]) for row in first.rows},
        by_seed=[joined([part.by_seed[place] for part in parts]) for place in range(len(first.by_seed))],
        ranks=joined([part.ranks for part in parts]),
        seam_gradients=(
            torch.cat([part.seam_gradients[0] for part in parts]),
            torch.cat([part.seam_gradients[1] for part in parts]),
        ),
        factors={row: joined([part.factors[row] for part in parts]) for row in first.factors},
        hair_lightness=torch.cat([part.hair_lightness for part in parts]),
        features=joined([part.features for part in parts]),
        seed_features=[
            torch.cat([part.seed_features[place] for part in parts]) for place in range(len(first.by_seed))
        ],
        known_features=torch.cat([part.known_features for part in parts]),
        visible_kept=torch.cat([part.visible_kept for part in parts]),
    )
