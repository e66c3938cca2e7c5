"""Every metric of every face. Faces are measured a few at a time, and only numbers are kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ..config.schema import DataConfig
from ..data.images import ImageSet
from ..inference.speed import return_freed_memory
from ..remote_code.halves import join
from .baselines import NearestTraining, mean_completion, mirrored, other_half
from .cache import Completed
from .config import EvaluationConfig
from .dataset import EvaluationBatch, make_batch, to_tensor
from .factors import CLASSES, draw_templates, labels_of, predict_factors
from .features import FeatureNetwork
from .metrics import pixel
from .metrics.colour import colour_scores, lightness, lightness_above, procedural_regions, seam_regions, to_lab
from .metrics.scoring import Distances, distances, truth_ranks
from .probes import Probe, shifts

FACES_AT_ONCE = 64
"""Faces whose pixels are in memory at once."""
Values = dict[str, torch.Tensor]
"""(N,) values by metric."""
Complete = Callable[[np.ndarray, int, int], Completed]
"""Completes faces, given the index of the first and the seed."""


@dataclass(frozen=True, eq=False)
class Measurements:
    """Numbers of N faces.

    Args:
        rows: By row (model, truth, exact, ...) and metric, (N,) each, means over completions and seeds.
        by_seed: The same for the model, per seed.
        ranks: By number of `RANKED`, (N,) ranks of the truth among the completions of the first seed.
        seam_gradients: Of the truth and of the completions of the first seed, (N, 1 + K).
        factors: Classes of the free factors by row and factor, (N, K or 1): predicted for `model` and `exact`, and for
            the truth as drawn (`truth`) and as predicted (`truth_predicted`).
        hair_lightness: L* of the hair in the known half, (N,); NaN where none is visible.
        features: Of whole faces, (N, D) by row, with the first exact sample; the model's are `seed_features`.
        seed_features: Of the first completion of each face, (N, D) per seed.
        known_features: Of the known halves completed by their mirror image, (N, D); empty without probes.
        visible_kept: Whether all visible pixels are unchanged bit for bit, (N,).
    """

    rows: dict[str, Values]
    by_seed: list[Values]
    ranks: Values
    seam_gradients: torch.Tensor
    factors: dict[str, Values]
    hair_lightness: torch.Tensor
    features: Values
    seed_features: list[torch.Tensor]
    known_features: torch.Tensor
    visible_kept: torch.Tensor

    @property
    def floor(self) -> Values:
        """Metrics of exact samples where they are known, otherwise of the truth."""
        return self.rows.get("exact", self.rows["truth"])


def measure_faces(
    faces: ImageSet,
    data: DataConfig,
    hidden_half: str,
    config: EvaluationConfig,
    complete: Complete,
    network: FeatureNetwork,
    nearest: NearestTraining | None = None,
    probes: Mapping[str, Probe] | None = None,
) -> Measurements:
    """Computes every metric of every face, for the model and its baselines; None leaves these two out."""
    num_faces, at_once = config.sampling.num_faces, config.faces_at_once
    step = max(1, FACES_AT_ONCE // at_once) * at_once
    parts: list[Measurements] = []
    with tqdm(total=num_faces * config.num_seeds, desc="completing", unit="face") as bar:
        for start in range(0, num_faces, step):
            rows = range(start, min(start + step, num_faces))
            batch = make_batch(faces, hidden_half, data, rows, config.sampling.num_completions)
            completed = []
            for seed in config.seeds:
                pieces = []
                for first in range(0, len(rows), at_once):
                    images = batch.images[first : first + at_once]
                    pieces.append(complete(images, start + first, seed))
                    bar.update(len(images))
                completed.append(Completed(*map(torch.cat, zip(*pieces, strict=True))))
            baselines = {"other_face": other_half(faces, hidden_half, rows, num_faces)}
            if nearest is not None:
                baselines["nearest_training_face"] = nearest.half(batch.known)
            parts.append(_measure(PreparedBatch(batch, network, probes), completed, baselines, start))
            return_freed_memory()
    names = [each.name for each in fields(Measurements)]
    return Measurements(**{name: _concatenate([getattr(part, name) for part in parts]) for name in names})


def _concatenate(parts: Sequence[Any]) -> Any:
    """Concatenates tensors, or nested dictionaries and lists of tensors, along the faces."""
    if isinstance(parts[0], dict):
        return {key: _concatenate([part[key] for part in parts]) for key in parts[0]}
    if isinstance(parts[0], list):
        return [_concatenate(each) for each in zip(*parts, strict=True)]
    return torch.cat(list(parts))


def scores_per_face(batch: EvaluationBatch, hidden: torch.Tensor) -> Values:
    """Pixel metrics (N,) of hidden halves (N, K, 3, h, w) uint8, means over the K."""
    halves, known, truth = hidden / 255, batch.known[:, None] / 255, batch.truth / 255
    values = {}
    if batch.determined is not None:
        values["determined_pixel_error"] = pixel.masked_error(halves, truth, batch.determined).mean(dim=1)
    values["residual_noise"] = pixel.residual_noise(halves).mean(dim=1)
    values["seam_gradient"] = pixel.seam_gradient(known, halves).mean(dim=1)
    values["seam_colour_difference"] = pixel.seam_colour_difference(known, halves).mean(dim=1)
    if hidden.shape[1] > 1:
        values["spread"] = pixel.spread(halves)
    return values


def scores(batch: EvaluationBatch, hidden: torch.Tensor) -> dict[str, float]:
    """Means over the faces of `scores_per_face`."""
    return {name: float(value.mean()) for name, value in scores_per_face(batch, hidden).items()}


class PreparedBatch:
    """A batch of n faces with what the metrics of all its halves share: colours, regions and features.

    Args:
        batch: The faces.
        network: The feature network.
        probes: Those of whole faces by column, or None.
    """

    def __init__(
        self, batch: EvaluationBatch, network: FeatureNetwork, probes: Mapping[str, Probe] | None = None
    ) -> None:
        self.batch, self.network, self.probes = batch, network, probes or {}
        self.known_lab, self.truth_lab = to_lab(batch.known / 255), to_lab(batch.truth / 255)
        if batch.factors is not None and batch.determined is not None:
            height, width = batch.images.shape[1:3]
            self.regions = procedural_regions(batch.factors, batch.determined, height, width)
            self.hair_lightness = lightness(batch.factors.hair)
        else:
            upright = batch.hidden_half == "bottom"
            self.regions = seam_regions(self.known_lab, batch.truth.shape[-2], upright)
            self.hair_lightness = lightness_above(self.known_lab, self.regions.get("hair_like"))
        self.truth_features = network(to_tensor(batch.images))

    def measure(self, hidden: torch.Tensor) -> tuple[Values, Distances, torch.Tensor]:
        """All metrics (n,) of hidden halves (n, K, 3, h, w) uint8, means over the K.

        Also gives their distances in feature space, and the features (n, D) of the first of the K.
        """
        values = scores_per_face(self.batch, hidden)
        values["sharpness"] = pixel.sharpness(hidden / 255).mean(dim=1)
        known = self.batch.known[:, None].expand(-1, hidden.shape[1], -1, -1, -1)
        whole = join(known.flatten(0, 1), hidden.flatten(0, 1), self.batch.hidden_half)
        features = self.network(whole).unflatten(0, hidden.shape[:2])
        apart = distances(self.truth_features, features)
        values |= {
            "energy_score": apart.energy_score,
            "distance_to_truth": apart.to_truth.mean(dim=1),
            "best_of_k_distance": apart.to_truth.amin(dim=1),
        }
        if hidden.shape[1] > 1:
            values["pairwise_distance"] = apart.pairwise
        values |= shifts(self.probes, features, self.truth_features)
        values |= colour_scores(self.known_lab, to_lab(hidden / 255), self.truth_lab, self.regions)
        return values, apart, features[:, 0].clone()

    def ranked(self, hidden: torch.Tensor, apart: Distances) -> Values:
        """The numbers of `RANKED`, (n, 1 + K): of the truths, then of their completions (n, K, 3, h, w) uint8."""
        members = torch.cat([self.batch.truth[:, None], hidden], dim=1) / 255
        return {
            "lightness": to_lab(members)[:, :, 0].mean(dim=(-2, -1)),
            "seam_gradient": pixel.seam_gradient(self.batch.known[:, None] / 255, members),
            "sharpness": pixel.sharpness(members),
            "distance_to_others": apart.eccentricity,
        }


def _measure(
    prepared: PreparedBatch, completed: list[Completed], baselines: dict[str, torch.Tensor], start: int
) -> Measurements:
    """All numbers of a batch; completions per seed, and halves of baselines that the batch does not hold."""
    batch = prepared.batch
    by_seed, apart, seed_features = zip(*(prepared.measure(each.hidden) for each in completed), strict=True)
    known = {"truth": batch.truth[:, None]} | ({} if batch.exact is None else {"exact": batch.exact})
    rows, features = {"model": _mean(by_seed)}, {}
    for name, halves in (known | baselines).items():
        rows[name], _, features[name] = prepared.measure(halves)
    means = [prepared.measure(mean_completion(each.hidden)) for each in completed]
    rows["mean_completion"], features["mean_completion"] = _mean([values for values, _, _ in means]), means[0][2]
    numbers, known_features = prepared.ranked(completed[0].hidden, apart[0]), torch.empty(0)
    if prepared.probes:
        known_features = prepared.network(mirrored(batch.known, batch.hidden_half))
        rows["matched_truth"] = _shifts_of_matched_truth(prepared, completed[0].hidden, start)
    return Measurements(
        rows=rows,
        by_seed=list(by_seed),
        ranks={name: truth_ranks(each[:, 0], each[:, 1:], start) for name, each in numbers.items()},
        seam_gradients=numbers["seam_gradient"],
        factors=_factors(batch, torch.cat([each.hidden for each in completed], dim=1), start),
        hair_lightness=prepared.hair_lightness,
        features=features,
        seed_features=list(seed_features),
        known_features=known_features,
        visible_kept=torch.stack([each.visible_kept.all(dim=1) for each in completed]).all(dim=0),
    )


def _factors(batch: EvaluationBatch, hidden: torch.Tensor, seed: int) -> dict[str, Values]:
    """Classes of the free factors of procedural faces, by row; empty for others."""
    if batch.factors is None or batch.exact is None:
        return {}
    height, width = batch.images.shape[1:3]
    templates, truth = draw_templates(batch.factors, height, width, seed), labels_of(batch.factors)
    return {
        "model": predict_factors(templates, hidden),
        "exact": predict_factors(templates, batch.exact),
        "truth": {name: torch.from_numpy(np.asarray(truth[name]))[:, None] for name in CLASSES},
        "truth_predicted": predict_factors(templates, batch.truth[:, None]),
    }


def _mean(parts: Sequence[Values]) -> Values:
    return {name: torch.stack([part[name] for part in parts]).mean(dim=0) for name in parts[0]}


def _shifts_of_matched_truth(prepared: PreparedBatch, hidden: torch.Tensor, seed: int) -> Values:
    """Shifts of the truth with the noise and blur of its completions, which only these artefacts cause."""
    batch, completions = prepared.batch, hidden / 255
    noisy = pixel.add_noise_to(batch.truth / 255, pixel.residual_noise(completions).mean(dim=1), seed)
    matched = pixel.blur_to_sharpness(noisy, pixel.sharpness(completions).mean(dim=1))
    halves = (matched.clamp(0, 1) * 255).round().to(torch.uint8)
    features = prepared.network(join(batch.known, halves, batch.hidden_half))
    return shifts(prepared.probes, features[:, None], prepared.truth_features)
