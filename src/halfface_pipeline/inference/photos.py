"""Photos cut to a model's frame, and completions pasted back into them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import PIL.Image

from ..data.frames import DRAWN
from ..data.procedural import faces
from ..diffusion.halves import known_box
from ..photo.faces import find_faces
from ..photo.frame import (
    Box,
    Similarity,
    bounds,
    centred_frame,
    cut_out,
    fraction_inside,
    frame_eyes,
    paste,
    similarity,
)
from ..remote_code.image_io import resize_to
from .load import PACKAGED_FOLDER, open_photo

Crop = Box | Literal["centre"] | None
EXAMPLE_SEED, EXAMPLE_HEIGHT = 2_000_003, 240
"""Of drawn faces that no configuration trains on; pixels of height, about."""
VIEW_SIDE = 320
"""Longest side in pixels of the part of a photo that a sheet shows."""
LEAST_KNOWN = 0.9
"""Fraction of the known half that must lie in the photo for no warning."""
DRAWN_WARNING = "the model was trained on drawn faces; in a photo the half that it generates looks drawn"


@dataclass(frozen=True, eq=False)
class FramedPhoto:
    """A photo and the pictures of the model's size that were cut out of it.

    Args:
        photo: Upright RGB.
        frames: RGB pictures of the model's size.
        places: From each frame into the photo; empty where the photo is itself the only frame.
        warnings: What may make the completions bad, one line each.
    """

    photo: PIL.Image.Image
    frames: tuple[PIL.Image.Image, ...]
    places: tuple[Similarity, ...]
    warnings: tuple[str, ...] = ()

    def pasted(self, completions: Sequence[PIL.Image.Image], hidden_half: str) -> PIL.Image.Image:
        """The photo with a completion of each frame in its place."""
        if not self.places:
            return completions[0]
        photo = self.photo
        for completion, place in zip(completions, self.places, strict=True):
            photo = paste(photo, completion, place, hidden_half)
        return photo

    def view(self, photo: PIL.Image.Image) -> PIL.Image.Image:
        """The part of a photo of this size around the frames, reduced for a sheet."""
        if not self.places:
            return photo
        boxes = [bounds(place, (0, 0, *self.frames[0].size), 0, photo.size) for place in self.places]
        low, high = np.min([box[:2] for box in boxes], axis=0), np.max([box[2:] for box in boxes], axis=0)
        part = photo.crop((*low.tolist(), *high.tolist()))
        part.thumbnail((VIEW_SIDE, VIEW_SIDE), PIL.Image.Resampling.LANCZOS)
        return part


def example_faces(config: Any, number: int) -> list[PIL.Image.Image]:
    """Faces to try a model on: synthetic photos (CC0), at most five, or drawn ones for a model of drawn faces."""
    photos = sorted((PACKAGED_FOLDER / "photo" / "examples").glob("*.jpg"))[:number]
    if photos and config.get("trained_on") != DRAWN:
        return [open_photo(str(photo), None) for photo in photos]
    enlarged = max(1, round(EXAMPLE_HEIGHT / config.height))
    drawn = faces(number, config.height * enlarged, config.width * enlarged, seed=EXAMPLE_SEED)[0]
    return [PIL.Image.fromarray(each) for each in drawn]


def frame_photo(photo: PIL.Image.Image, config: Any, crop: Crop = None, face: int | None = 1) -> FramedPhoto:
    """Cuts a model's frames, at least one, out of an upright RGB photo; one of the model's own size is taken as it is.

    A crop is the box to cut to the model's aspect, `centre` for all of the photo, or None to find the face: the n-th
    largest, or all for None. ValueError if there is no such face, or none can be found without the extra `photo`.
    """
    height, width = config.height, config.width
    if crop is not None:
        box = (0, 0, *photo.size) if crop == "centre" else crop
        part = photo.crop(box)
        place = Similarity(1, complex(box[0], box[1])).after(centred_frame(part.size, height, width))
        return FramedPhoto(photo, (resize_to(part, height, width),), (place,))
    if photo.size == (width, height):
        return FramedPhoto(photo, (photo,), ())
    faces = find_faces(photo)
    if not faces:
        raise ValueError("no face was found in it")
    if face is not None and face > len(faces):
        raise ValueError(f"it has {len(faces)} faces, and there is no face {face}")
    eyes = frame_eyes(config)
    places = tuple(similarity(eyes, each.eyes) for each in (faces if face is None else faces[face - 1 : face]))
    frames = tuple(cut_out(photo, place, height, width) for place in places)
    warnings = [line for place in places for line in frame_warnings(photo.size, place, config)]
    if config.get("trained_on") == DRAWN:
        warnings.append(DRAWN_WARNING)
    if face is not None and len(faces) > 1:
        warnings.append(f"{len(faces)} faces were found; completing number {face} by size, --face all takes all")
    return FramedPhoto(photo, frames, places, tuple(warnings))


def frame_warnings(size: tuple[int, int], place: Similarity, config: Any) -> list[str]:
    """What may make the completion of a face in a photo of (width, height) bad, one line each."""
    lines = []
    if place.scale < 0.5:
        lines.append(f"the face is small: the model sees it enlarged {1 / place.scale:.1f} times")
    inside = fraction_inside(size, place, known_box(config.height, config.width, config.hidden_half))
    if inside < LEAST_KNOWN:
        lines.append(f"the face is cut off: {1 - inside:.0%} of the half that is kept lies outside the photo")
    return lines
