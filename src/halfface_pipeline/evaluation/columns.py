"""Columns of faces, by which they are sliced and which probes predict: their metadata, and procedural factors."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np

from ..config.schema import DataConfig
from ..data.images import ImageSet, load_categories
from ..data.procedural.factors import GLASSES, NECKLINES, Factors
from ..data.splits import Split
from .dataset import factors_of
from .factors import hair_colours
from .metrics.colour import lightness

MAX_VALUES = 8
"""Different words that a column of words may have, and whole numbers that are sliced by value, at most."""


def load_columns(data: DataConfig, faces: ImageSet, num: int, split: Split) -> dict[str, np.ndarray]:
    """Columns (num,) of the first faces of a split; words, empty where missing, of held-out faces alone."""
    words = load_categories(data, split, faces.names, MAX_VALUES) if split == "eval" else {}
    columns = {name: values[:num] for name, values in {**faces.attributes, **words}.items()}
    return columns | (factor_columns(factors_of(data, num, split)) if data.source == "procedural" else {})


def factor_columns(factors: Factors) -> dict[str, np.ndarray]:
    """What N procedural faces are drawn from, (N,) each: numbers, names, and the lightness L* of colours."""
    columns = {}
    for field in fields(Factors):
        values = getattr(factors, field.name)
        if values.ndim == 1:
            columns[field.name] = values
        else:
            columns[f"{field.name}_lightness"] = lightness(values).numpy()
    columns["glasses"] = np.array(GLASSES)[factors.glasses.astype(int)]
    columns["neckline"] = np.array(NECKLINES)[factors.neckline.astype(int)]
    return columns | {"hair_colour": np.array(hair_colours(factors))}


def choose_columns(option: str, names: Sequence[str], faults: Mapping[str, str | None]) -> list[str]:
    """The columns with these names, or `all` that can be used; ValueError if one is missing or cannot.

    `faults` are the columns there are, with the reason why one cannot be used.
    """
    possible = [name for name, fault in faults.items() if fault is None]
    if list(names) == ["all"] and possible:
        return possible
    for name in names:
        fault = faults.get(name, "which the data do not have")
        if fault is not None:
            raise ValueError(f"{option} has {name}, {fault}; possible columns: {', '.join(possible) or 'none'}")
    return list(dict.fromkeys(names))
