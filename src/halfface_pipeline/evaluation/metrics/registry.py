"""The table of metrics: what each measures, its unit, which direction is better and where the report shows it."""

from collections.abc import Container
from dataclasses import dataclass, replace

PIXEL, FEATURE, LAB = "pixel value from 0 to 1", "feature", "CIELAB"
NUM_EXACT_SAMPLES = 32
"""Exact samples of each procedural face that find its determined pixels."""
SEAM_ROWS = 4
"""Rows on each side of the seam whose colours are compared."""
NEAREST = 5
"""The neighbour whose distance is the radius of a neighbourhood (Naeem et al. 2020)."""
DARK = 30
"""Lightness L* below which hair counts as dark."""


@dataclass(frozen=True)
class Metric:
    """How a metric is reported.

    Args:
        group: `consistency`, `diversity`, `realism`, or `shift` (signed, completed minus true).
        description: What it measures.
        unit: Of its value.
        better: `lower`, `higher`, or None where the value should equal that of the truth.
        in_summary: Whether the first table of the report shows it.
    """

    group: str
    description: str
    unit: str
    better: str | None = None
    in_summary: bool = True


METRICS = {
    "energy_score": Metric(
        "consistency",
        "mean distance to the truth minus half the mean distance among completions; lowest for the true conditional",
        FEATURE,
        "lower",
    ),
    "distance_to_truth": Metric("consistency", "mean distance of a completion to the truth", FEATURE, "lower"),
    "best_of_k_distance": Metric("consistency", "distance of the nearest completion to the truth", FEATURE, "lower"),
    "determined_pixel_error": Metric(
        "consistency",
        f"mean absolute error over pixels that are equal in {NUM_EXACT_SAMPLES} exact samples",
        PIXEL,
        "lower",
    ),
    "seam_gradient": Metric("consistency", "mean absolute difference of the two rows at the seam", PIXEL, "lower"),
    "seam_colour_difference": Metric(
        "consistency", f"mean colour of {SEAM_ROWS} rows above and below the seam, per column", PIXEL, "lower"
    ),
    "spread": Metric("diversity", "standard deviation of a pixel among the completions of one half", PIXEL),
    "pairwise_distance": Metric("diversity", "mean distance between two completions of one half", FEATURE),
    "residual_noise": Metric("realism", "standard deviation of white noise left in the completion", PIXEL),
    "sharpness": Metric("realism", "root mean square of the Laplacian: edges, texture and noise", PIXEL),
}
"""Metrics of single faces."""
REGION_METRICS = {
    "colour_error": Metric("consistency", "Delta E*ab between the mean colours, completed and true", LAB, "lower"),
    "seam_step": Metric("consistency", "Delta E*ab across the seam, per column", LAB, "lower", in_summary=False),
    "lightness_shift": Metric("shift", "lightness, completed minus true", "L*", in_summary=False),
    "hue_shift": Metric("shift", "hue difference Delta H*, positive towards yellow", "L*", in_summary=False),
}
"""Metrics of single faces by region; their names end in that of the region."""
REGIONS = {
    "skin": "skin that the known half determines",
    "hair": "hair that the known half determines",
    "dark_hair": f"the same for faces with hair darker than L* {DARK}",
    "background": "background that the known half determines",
    "centre": "the middle third of the columns below the seam",
    "sides": "the outer thirds of the columns below the seam",
    "hair_like": "outer columns that above the seam join the crown in its colour",
    "dark_hair_like": f"the same where they are darker than L* {DARK} above the seam",
}
PROBE_SHIFT = "reading_shift_"
"""Followed by a column: how far completions shift what a probe predicts for it."""
SET_METRICS = {
    "frechet_distance": Metric(
        "realism", "squared Frechet distance of Gaussians fitted to the features (Heusel et al. 2017)", "", "lower"
    ),
    "kernel_distance": Metric(
        "realism", "squared maximum mean discrepancy, kernel (x.y / D + 1)^3 (Binkowski et al. 2018)", "", "lower"
    ),
    "precision": Metric(
        "realism", f"share of completions within the {NEAREST}-neighbourhood of a real face", "", "higher"
    ),
    "recall": Metric(
        "realism", f"share of real faces within the {NEAREST}-neighbourhood of a completion", "", "higher"
    ),
    "density": Metric(
        "realism", f"mean number of {NEAREST}-neighbourhoods of real faces around a completion, over {NEAREST}", ""
    ),
    "coverage": Metric(
        "realism", f"share of real faces with a completion in their {NEAREST}-neighbourhood", "", "higher"
    ),
}
"""Metrics of sets of faces."""
RANKED = {
    "lightness": "mean lightness L* of the hidden half",
    "seam_gradient": "mean absolute difference of the two rows at the seam",
    "sharpness": "root mean square of the Laplacian",
    "distance_to_others": "mean feature distance to the other members",
}
"""Numbers by which the truth is ranked among its completions."""
ROWS = {
    "model": "model",
    "truth": "truth",
    "exact": "exact samples",
    "other_face": "another face",
    "nearest_training_face": "nearest training face",
    "mean_completion": "mean completion",
    "matched_truth": "matched truth",
}
"""The model and its baselines, as the report names them."""


def find_metric(name: str) -> Metric:
    """The metric of single faces with this name; ValueError if there is none."""
    if name in METRICS:
        return METRICS[name]
    for kind, metric in REGION_METRICS.items():
        region = name.removeprefix(f"{kind}_")
        if region != name and region in REGIONS:
            shown = metric.in_summary and not region.startswith("dark_")
            return replace(metric, description=f"{metric.description}: {REGIONS[region]}", in_summary=shown)
    column = name.removeprefix(PROBE_SHIFT)
    if column and column != name:
        words = column.replace("_", " ")
        return Metric("shift", f"predicted {words}, completed minus true", f"unit of {words}", in_summary=False)
    raise ValueError(f"metric is {name!r}; it must be one of {', '.join(METRICS)}, or one by region")


def hair_metric(names: Container[str], kind: str = "lightness_shift") -> str | None:
    """The metric of this kind over hair among these names, of procedural faces or of photographs, if there is one."""
    return next((name for name in (f"{kind}_hair", f"{kind}_hair_like") if name in names), None)
