"""Attributes of the pictures: numeric columns of a table as float32 arrays."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from halfface_pipeline.config.schema import DataConfig

# The order is that of list_attr_celeba.txt: data sets that keep the 40 values as one list follow it.
CELEBA_ATTRIBUTES = (
    *("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips"),
    *("Big_Nose", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin"),
    *("Eyeglasses", "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open"),
    *("Mustache", "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline"),
    *("Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat"),
    *("Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young"),
)


def read_attributes(table: pa.Table, data: DataConfig) -> dict[str, np.ndarray]:
    """`data.attribute_columns`, or all numeric columns, float32 (N,) each with NaN where missing.

    A column of lists gives one attribute per position. Raises ValueError if a chosen column is missing or not numeric,
    or a value does not fit `data.attribute_encoding`.
    """
    missing = [column for column in data.attribute_columns if column not in table.column_names]
    if missing:
        raise ValueError(f"data.attribute_columns has {missing}; it must be among {table.column_names}")
    encoding = "signed" if data.source == "celeba" else data.attribute_encoding
    found: dict[str, np.ndarray] = {}
    for name in data.attribute_columns or table.column_names:
        parts = _numbers(name, table[name].combine_chunks())
        if not parts and data.attribute_columns:
            raise ValueError(f"data.attribute_columns has {name!r}; it holds {table[name].type}, not numbers")
        found |= {part: _encode(part, values, encoding) for part, values in parts.items()}
    return found


def _numbers(name: str, column: Any) -> dict[str, np.ndarray]:
    if not is_numeric(column.type):
        return {}
    if not hasattr(column.type, "value_type"):
        return {name: column.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)}
    flat = column.flatten()
    width = len(flat) // len(column)
    uneven = pyarrow.compute.list_value_length(column).unique().to_pylist() != [width]
    if uneven or hasattr(flat.type, "value_type"):
        return {}
    values = flat.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False).reshape(-1, width)
    labels = CELEBA_ATTRIBUTES if width == len(CELEBA_ATTRIBUTES) else [f"{name}_{place}" for place in range(width)]
    return {label: values[:, place] for place, label in enumerate(labels)}


def _encode(name: str, values: np.ndarray, encoding: str) -> np.ndarray:
    if encoding == "number":
        return values
    low = 0 if encoding == "binary" else -1
    wrong = values[~np.isnan(values) & ~np.isin(values, (low, 1))]
    if wrong.size:
        raise ValueError(
            f"data.attribute_encoding is {encoding!r}; {name} is {wrong[0]:g}, where it must be {low} or 1"
        )
    return (values - low) / (1 - low)


def is_numeric(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers or booleans, or lists of them."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return is_numeric(kind.value_type)
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
