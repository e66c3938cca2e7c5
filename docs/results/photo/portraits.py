"""Cuts some 1,827 varied synthetic faces out of three public repositories: docs/results/photo.md#more-varied-faces.

SelfishGene/SFHQ-dataset and SelfishGene/SFHQ-T2I-dataset (MIT) show their faces in large sheets,
faker-js/assets-person-portrait (CC0) has them one by one. Clone the three into a folder, then:

    python docs/results/photo/portraits.py FOLDER portraits

writes portraits/train and portraits/test (100 faces of the sheets), 224x176, for configs/photo.yaml.
"""

import random
import sys
from pathlib import Path

import numpy as np
import PIL.Image
from tqdm.auto import tqdm

from halfface_pipeline.photo.faces import find_faces
from halfface_pipeline.photo.frame import cut_out, fraction_inside, similarity

HEIGHT, WIDTH = 224, 176
EYES = np.array([[0.35, 0.45], [0.65, 0.45]]) * (WIDTH, HEIGHT)
SHEETS = ("SFHQ-dataset/images", "SFHQ-T2I-dataset/figures")
PORTRAITS = "assets-person-portrait"
LEFT_OUT = ("distribution", "bring_to", "segmentation", "with_prompts", "bad things")
"""Sheets with plots, drawings or text beside the faces, and one of pictures that were searched for their faults."""
NUM_TEST = 100
ALIKE = 9
"""Root mean square difference, of 255, of two faces reduced to 12x16, up to which they are one: sheets repeat them."""


def panels(sheet: Path) -> dict[str, PIL.Image.Image]:
    """The pictures of a sheet on a dark ground, by sheet, row and column."""
    pixels = np.asarray(PIL.Image.open(sheet).convert("RGB"))
    gan = "SFHQ_" in sheet.name  # its sheets have narrower, softer gaps
    bright = pixels.max(axis=2) > 14
    rows = _runs(bright.mean(axis=1) > 0.35)
    side = np.median([stop - start for start, stop in rows])
    rows = [(start, stop) for start, stop in rows if abs(stop - start - side) < 0.06 * side]
    inside = np.concatenate([bright[start + 3 : stop - 3] for start, stop in rows])
    columns = _runs(inside.mean(axis=0) > (0.5 if gan else 0.02))
    columns = [(start, stop) for start, stop in columns if abs(stop - start - side) < 0.1 * side]
    edge, bottom = (6, 7) if gan else (2, 2)
    return {
        f"{sheet.stem.replace(' ', '_')}-{row}-{column}": PIL.Image.fromarray(
            pixels[top + edge : low - bottom, left + edge : right - edge]
        )
        for row, (top, low) in enumerate(rows)
        for column, (left, right) in enumerate(columns)
    }


def _runs(on: np.ndarray) -> list[tuple[int, int]]:
    """Where at least 120 neighbours are on: starts and stops."""
    edges = np.flatnonzero(np.diff(np.r_[0, on.astype(int), 0])).reshape(-1, 2)
    return [(start, stop) for start, stop in edges if stop - start >= 120]


def portrait(picture: PIL.Image.Image) -> PIL.Image.Image | None:
    """The largest face in the model's frame; None if it is missing, cut off, small, far from upright or grey."""
    faces = find_faces(picture)
    if not faces:
        return None
    place = similarity(EYES, faces[0].eyes)
    inside = fraction_inside(picture.size, place, (0, 0, WIDTH, HEIGHT))
    if inside < 0.88 or place.scale < 1 / 1.8 or abs(np.angle(place.turn, deg=True)) > 30:
        return None
    face = cut_out(picture, place, HEIGHT, WIDTH)
    pixels = np.asarray(face).astype(float)
    return face if np.abs(pixels - pixels.mean(axis=2, keepdims=True)).mean() >= 3 else None


def distinct(faces: dict[str, PIL.Image.Image]) -> list[str]:
    """The names of faces that are not nearly those of an earlier name."""
    kept: list[str] = []
    seen = np.empty((0, 16 * 12 * 3), np.float32)
    for name in sorted(faces):
        reduced = np.asarray(faces[name].resize((12, 16), PIL.Image.Resampling.BOX)).astype(np.float32).reshape(1, -1)
        if not kept or np.sqrt(np.square(seen - reduced).mean(axis=1)).min() > ALIKE:
            kept.append(name)
            seen = np.concatenate([seen, reduced])
    return kept


def main(folder: Path, out: Path) -> None:
    """Writes the portraits of the three repositories in a folder."""
    sheets = [file for place in SHEETS for file in (folder / place).glob("*.jpg")]
    sheets = [file for file in sheets if not any(word in file.name for word in LEFT_OUT)]
    singles = sorted((folder / PORTRAITS).glob("*male/512/*.jpg"))
    faces = {}
    for file in tqdm(sheets + singles, unit="file", disable=None):
        single = (
            {f"faker-{file.parts[-3]}-{file.stem}": PIL.Image.open(file).convert("RGB")} if file in singles else {}
        )
        for name, picture in (single or panels(file)).items():
            if face := portrait(picture):
                faces[name] = face
    kept = distinct(faces)
    random.Random(0).shuffle(kept)
    test = [name for name in kept if not name.startswith("faker")][:NUM_TEST]
    for name in kept:
        place = out / ("test" if name in test else "train")
        place.mkdir(parents=True, exist_ok=True)
        faces[name].save(place / f"{name}.png")
    print(f"{len(kept) - len(test)} faces in {out / 'train'}, {len(test)} in {out / 'test'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
