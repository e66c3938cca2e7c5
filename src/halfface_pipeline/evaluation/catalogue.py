"""What each measure means, in one place for the tables, the JSON and the pictures."""

from dataclasses import dataclass

from .metrics.pixel import SEAM_ROWS
from .trials import NUM_REDRAWS


@dataclass(frozen=True)
class Measure:
    """A number read off each face.

    Attributes:
        group: The question it answers: `belongs`, `varied`, `real` or `shift`.
        meaning: In words.
        unit: Of the value.
        better: `lower`, or none where the value should be that of the truth.
        shown: Whether it stands in the first table.
    """

    group: str
    meaning: str
    unit: str
    better: str | None = None
    shown: bool = True


PIXEL, FEATURE, LAB = "pixel value from 0 to 1", "feature", "CIELAB"
MEASURES = {
    "determined_pixel_error": Measure(
        "belongs",
        f"mean absolute error over pixels that do not vary across {NUM_REDRAWS} exact redraws",
        PIXEL,
        "lower",
    ),
    "energy_score": Measure(
        "belongs",
        "mean distance to the truth less half the mean distance among completions; smallest for the true conditional",
        FEATURE,
        "lower",
    ),
    "distance_to_truth": Measure("belongs", "mean distance of a completion to the truth", FEATURE, "lower"),
    "best_of_k_distance": Measure("belongs", "distance of the nearest completion to the truth", FEATURE, "lower"),
    "seam_gradient": Measure("belongs", "mean absolute difference of the two rows at the seam", PIXEL, "lower"),
    "seam_colour_difference": Measure(
        "belongs", f"column by column, mean colour of {SEAM_ROWS} rows above and below the seam", PIXEL, "lower"
    ),
    "spread": Measure("varied", "standard deviation of a pixel among the completions of one half", PIXEL),
    "pairwise_distance": Measure("varied", "mean distance between two completions of one half", FEATURE),
    "residual_noise": Measure("real", "standard deviation of white noise left in the completion", PIXEL),
    "sharpness": Measure("real", "root mean square of the Laplacian: edges and texture, noise too", PIXEL),
}
REGIONS = {
    "skin": "skin that the known half decides",
    "hair": "hair that the known half decides",
    "dark_hair": "the same for faces with hair darker than L* 30",
    "background": "background that the known half decides",
    "centre": "the middle third of the columns below the seam",
    "sides": "the outer thirds of the columns below the seam",
    "hair_like": "outer columns that above the seam join the crown in its colour",
    "dark_hair_like": "the same where they are darker than L* 30 above the seam",
}
BY_REGION = {
    "colour_error": Measure("belongs", "Delta E*ab between the mean colours completed and true", LAB, "lower"),
    "seam_step": Measure("belongs", "Delta E*ab across the seam, column by column", LAB, "lower", shown=False),
    "lightness_shift": Measure("shift", "lightness completed less lightness true", "L*", shown=False),
    "hue_shift": Measure("shift", "signed hue difference Delta H*, positive towards yellow", "L*", shown=False),
}
READING_SHIFT = "reading_shift_"
"""Before the name of a column: how far completions shift what a reader reads as that column."""
DARK_HAIR = ("dark_hair", "dark_hair_like")
"""Regions that answer whether dark hair is continued lighter, on procedural faces and on photographs."""


def describe(name: str) -> Measure:
    """What a measure means; ValueError for a name that is none."""
    if name in MEASURES:
        return MEASURES[name]
    for kind, measure in BY_REGION.items():
        region = name.removeprefix(f"{kind}_")
        if region != name and region in REGIONS:
            shown = measure.shown and region not in DARK_HAIR
            return Measure(measure.group, f"{measure.meaning}: {REGIONS[region]}", measure.unit, measure.better, shown)
    column = name.removeprefix(READING_SHIFT)
    if column and column != name:
        words = column.replace("_", " ")
        return Measure("shift", f"read as {words}, completed less true", f"unit of {words}", shown=False)
    raise ValueError(f"measure is {name!r}; it must be one of {', '.join(MEASURES)}, or one by region")
