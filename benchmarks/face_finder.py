"""How far found eyes lie from eyes marked by hand: the face finder, and Haar cascades where OpenCV 4 is installed.

The pictures are portraits and selfies of the package `openpeople` and, with `--aligned FOLDER`, faces of
omi_faces/test; all are laid into scenes and turned by several angles. Prints JSON.
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from halfface_pipeline.photo.faces import find_faces
from halfface_pipeline.photo.frame import Similarity

MARKS = json.loads(Path(__file__).with_suffix(".json").read_text())
"""Centres of the irises by set and file, left and right as they stand in the picture."""
ANGLES = (-30, -15, 0, 15, 30)
WITHIN = 0.06
"""How far a found eye may lie from the marked one, of the distance between the eyes."""
SIDE = 1200
"""Of a scene, in pixels."""
HAAR_ANGLES = (0, -20, 20, -40, 40)

Finder = Callable[[PIL.Image.Image], np.ndarray | None]


def scene(picture: PIL.Image.Image, angle: float, scale: float, seed: int) -> tuple[PIL.Image.Image, Similarity]:
    """A picture scaled and turned in the middle of coloured clouds, and where its points lie there."""
    clouds = np.random.default_rng(seed).integers(60, 190, (SIDE // 40, SIDE // 40, 3), dtype=np.uint8)
    background = PIL.Image.fromarray(clouds).resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC)
    turn = scale * np.exp(1j * np.deg2rad(angle))
    place = Similarity(turn, complex(SIDE / 2, SIDE / 2) - turn * complex(picture.width / 2, picture.height / 2))
    how = ((SIDE, SIDE), PIL.Image.Transform.AFFINE, place.inverse.coefficients(), PIL.Image.Resampling.BICUBIC)
    background.paste(picture.transform(*how), mask=PIL.Image.new("L", picture.size, 255).transform(*how))
    return background, place


def largest(photo: PIL.Image.Image) -> np.ndarray | None:
    """Eyes (2, 2) of the largest face that the project's finder finds."""
    faces = find_faces(photo)
    return faces[0].eyes if faces else None


def haar() -> Finder:
    """OpenCV's cascades of faces and eyes, which know upright faces alone, tried at several angles."""
    import cv2

    folder = Path(cv2.data.haarcascades)
    faces = cv2.CascadeClassifier(str(folder / "haarcascade_frontalface_alt2.xml"))
    eyes = cv2.CascadeClassifier(str(folder / "haarcascade_eye.xml"))

    def find(photo: PIL.Image.Image) -> np.ndarray | None:
        grey = np.asarray(photo.convert("L"))
        size, best = grey.shape[::-1], None
        for angle in HAAR_ANGLES:
            turn = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), angle, 1)
            turned = cv2.warpAffine(grey, turn, size)
            for x, y, w, h in faces.detectMultiScale(turned, 1.1, 4, minSize=(60, 60)):
                found = eyes.detectMultiScale(turned[y : y + round(0.6 * h), x : x + w], 1.05, 3)
                centres = [(x + a + c / 2, y + b + d / 2) for a, b, c, d in sorted(found, key=lambda box: -box[2])]
                sides = [[p for p in centres if (p[0] < x + w / 2) == left] for left in (True, False)]
                if all(sides) and (best is None or w > best[0]):
                    pair = np.array([sides[0][0], sides[1][0]])
                    best = (w, (pair - turn[:, 2]) @ np.linalg.inv(turn[:, :2]).T)
        return None if best is None else best[1]

    return find


def measure(find: Finder, scenes: list[tuple[PIL.Image.Image, np.ndarray]]) -> dict[str, Any]:
    """Misses, share within `WITHIN`, and errors of the worse eye over the distance of the eyes."""
    start = time.perf_counter()
    found = [find(photo) for photo, _ in scenes]
    seconds = (time.perf_counter() - start) / len(scenes)
    errors = [
        np.inf if eyes is None else np.linalg.norm(eyes - marked, axis=1).max() / np.linalg.norm(marked[1] - marked[0])
        for eyes, marked in zip(found, (marked for _, marked in scenes), strict=True)
    ]
    seen = [error for error in errors if np.isfinite(error)]
    return {
        "pictures": len(scenes),
        "missed": len(errors) - len(seen),
        "within": round(float(np.mean(np.array(errors) <= WITHIN)), 3),
        "median": round(float(np.median(seen)), 3) if seen else None,
        "worst": round(float(max(seen)), 3) if seen else None,
        "seconds": round(seconds, 2),
    }


def main() -> None:
    """Measures every finder that is installed on every set that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aligned", type=Path, help="omi_faces/test, 178x218")
    options = parser.parse_args()
    torch.set_num_threads(1)
    package = find_spec("openpeople")
    folders = {"aligned": (options.aligned, 1.5)}
    if package is not None and package.origin is not None:
        folders["openpeople"] = (Path(package.origin).parent / "data" / "curated", 0.35)
    finders: dict[str, Finder] = {"mtcnn": largest, **({"haar": haar()} if find_spec("cv2") else {})}
    results = {}
    for name, (folder, scale) in folders.items():
        if folder is None:
            continue
        pictures = [
            (PIL.Image.open(folder / file).convert("RGB"), np.array(eyes)) for file, eyes in MARKS[name].items()
        ]
        for angle in ANGLES:
            laid = [(scene(picture, angle, scale, seed), eyes) for seed, (picture, eyes) in enumerate(pictures)]
            scenes = [(photo, place(eyes)) for (photo, place), eyes in laid]
            for finder, find in finders.items():
                results[f"{finder}, {name}, {angle} degrees"] = measure(find, scenes)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
