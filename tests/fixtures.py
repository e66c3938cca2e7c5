"""Small data sets on disk and changes of a configuration, which tests of several modules start from."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from halfface_pipeline.config.schema import Config, DataConfig
from halfface_pipeline.data import ImageSet, load_images, procedural
from halfface_pipeline.data.attributes import CELEBA_ATTRIBUTES

AS_IT_IS = ("--crop", "centre", "--no-paste")
"""Arguments of `halfface complete` for a picture that is a face already."""


def changed(config: Config, section: str, **values: object) -> Config:
    """The configuration with other values in one section."""
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})


def read(data: DataConfig, split: str = "train") -> ImageSet:
    """The prepared images of a split, without a progress bar."""
    return load_images(data, split, progress=False)


def write_celeba(folder: Path, num_per_split: int = 8) -> np.ndarray:
    """Write a small folder laid out as the official CelebA one, with procedural faces of 178x218.

    Args:
        folder: Made if it is not there.
        num_per_split: Pictures in each of train, valid and test, which follow one another.

    Returns:
        The attributes as written: int (3 * num_per_split, 40) of -1 and 1.
    """
    num = 3 * num_per_split
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06d}.jpg" for number in range(1, num + 1)]
    for name, face in zip(names, procedural.faces(num, 218, 178)[0], strict=True):
        Image.fromarray(face).save(folder / "img_align_celeba" / name, quality=95)
    parts = [f"{name} {row // num_per_split}\n" for row, name in enumerate(names)]
    (folder / "list_eval_partition.txt").write_text("".join(parts))
    attributes = np.random.default_rng(0).choice([-1, 1], (num, len(CELEBA_ATTRIBUTES)))
    # The official file pads 1 to the width of -1.
    rows = [
        f"{name} {' '.join(f'{value:2d}' for value in row)}\n" for name, row in zip(names, attributes, strict=True)
    ]
    (folder / "list_attr_celeba.txt").write_text(f"{num}\n{' '.join(CELEBA_ATTRIBUTES)} \n{''.join(rows)}")
    return attributes
