"""Which faces a model is evaluated on, and what is known about their hidden halves."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from ..config.files import from_yaml
from ..config.schema import DataConfig, require
from ..data.images import ImageSet, load_images, overlap
from ..data.procedural import render
from ..data.procedural.factors import Factors, draw_factors, resample_free
from ..data.sources import PROCEDURAL_EVAL_START, Split
from ..diffusion.halves import split as split_halves
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from ..run_folder.log import CONFIG_FILE
from .metrics.pixel import determined_pixels
from .metrics.registry import NUM_EXACT_SAMPLES

NAMES_SHOWN = 3


def evaluation_data(name: str | None, model: str, pipe: HalfFaceInpaintPipeline) -> DataConfig:
    """The images a model is evaluated on, at its size: `procedural`, a folder of photos, or what it was trained on.

    Of the latter, given as None or by its folder, the held-out part. ValueError if there is no such folder, or none is
    named and the model does not state its training data.
    """
    trained_on = training_data(model)
    size = {"height": pipe.config.height, "width": pipe.config.width}
    if name == "procedural":
        return DataConfig(seed=trained_on.seed if trained_on else 0, **size)
    if name is not None and not Path(name).is_dir():
        raise ValueError(f"--data is {name!r}; it must be `procedural` or a folder of photos")
    if name is not None and (trained_on is None or not _is_same_folder(name, trained_on.path)):
        return DataConfig(source="imagefolder", path=name, holdout=1.0, on_bad_image="skip", **size)
    if trained_on is None:
        raise ValueError(f"--data is not given and {model} holds no {CONFIG_FILE}; say what to evaluate on")
    return dataclasses.replace(trained_on, **size)


def _is_same_folder(name: str, path: str | None) -> bool:
    """Whether both exist and are one folder, however they are written."""
    return path is not None and Path(path).exists() and Path(name).samefile(path)


def training_data(model: str) -> DataConfig | None:
    """The training data of a local run or checkpoint; None for a model of the Hub, which does not state it."""
    folders = (Path(model), Path(model).parent.parent)
    config = next((folder / CONFIG_FILE for folder in folders if (folder / CONFIG_FILE).is_file()), None)
    return from_yaml(config).data if config is not None and Path(model).is_dir() else None


def load_training_faces(training: DataConfig, data: DataConfig, num_training: int) -> ImageSet:
    """The training part, at the size of the evaluation data; of procedural faces the first `num_training`."""
    training = dataclasses.replace(training, height=data.height, width=data.width)
    if training.source == "procedural":
        training = dataclasses.replace(training, num_images=min(num_training, training.num_images or num_training))
    return load_images(training, "train")


def find_trained_on(
    faces: ImageSet, num_faces: int, data: DataConfig, train_faces: ImageSet, training: DataConfig
) -> tuple[str, ...]:
    """Names of the evaluated faces whose pixels are also in the training set.

    There may be such duplicates between the two parts of the data the model was trained on; in other data they raise
    ValueError.
    """
    if data.source == training.source == "procedural":
        return ()  # the parts are drawn from different numbers
    evaluated = dataclasses.replace(faces, images=faces.images[:num_faces], names=faces.names[:num_faces])
    found = overlap(evaluated, train_faces)
    own = dataclasses.replace(training, height=data.height, width=data.width) == data
    if found and not own:
        names = ", ".join(found[:NAMES_SHOWN]) + (", ..." if len(found) > NAMES_SHOWN else "")
        raise ValueError(
            f"--data is {data.path!r}; {len(found)} of {num_faces} faces in it are pictures the model was trained on "
            f"({names}); remove them, or leave --data out to evaluate on the held-out part of the training data"
        )
    return found


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """Images (N, H, W, 3) as a tensor (N, 3, H, W), uint8."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class EvaluationBatch:
    """N faces with halves of h x w; halves are uint8 in canonical orientation, the hidden one below.

    Args:
        images: Whole faces, (N, H, W, 3) uint8.
        hidden_half: The half that is hidden.
        known: Known halves, (N, 3, h, w).
        truth: Hidden halves, (N, 3, h, w).
        factors: What procedural faces are drawn from, where the distribution of their hidden half is known.
        exact: Exact samples of p(hidden | known), (N, K, 3, h, w), where it is known.
        determined: Pixels that the known half determines, (N, h, w) booleans, where they are known.
    """

    images: np.ndarray
    hidden_half: str
    known: torch.Tensor
    truth: torch.Tensor
    factors: Factors | None = None
    exact: torch.Tensor | None = None
    determined: torch.Tensor | None = None

    @property
    def originals(self) -> list[PIL.Image.Image]:
        """The whole faces as pictures."""
        return [PIL.Image.fromarray(image) for image in self.images]


def load_batch(
    pipe: HalfFaceInpaintPipeline, data: DataConfig, num_faces: int, num_completions: int, split: Split = "eval"
) -> EvaluationBatch:
    """The first faces of a part of the data, with exact samples of procedural faces whose bottom is hidden.

    ValueError if there are too few faces or completions.
    """
    require(num_completions >= 1, "num_completions", num_completions, "at least 1")
    faces = load_faces(data, num_faces, split)
    return make_batch(faces, pipe.config.hidden_half, data, range(num_faces), num_completions, split)


def load_faces(data: DataConfig, num_faces: int, split: Split = "eval") -> ImageSet:
    """A part of the data; ValueError if it has fewer than `num_faces`, or these are fewer than 2."""
    require(num_faces >= 2, "num_faces", num_faces, "at least 2, to compare with another face's half")
    faces = load_images(data, split)
    if len(faces) < num_faces:
        part = "held-out part" if split == "eval" else "part trained on"
        raise ValueError(f"num_faces is {num_faces}; the {part} has {len(faces)}")
    return faces


def make_batch(
    faces: ImageSet, hidden_half: str, data: DataConfig, rows: range, num_completions: int, split: Split = "eval"
) -> EvaluationBatch:
    """Consecutive faces of a part of the data as a batch; arguments as in `load_batch`."""
    images = np.array(faces.images[rows.start : rows.stop])
    batch = EvaluationBatch(images, hidden_half, *split_halves(to_tensor(images), hidden_half))
    if data.source != "procedural" or hidden_half != "bottom":
        return batch
    factors = factors_of(data, len(rows), split, rows.start)
    samples = draw_exact_samples(
        factors, data.height, data.width, NUM_EXACT_SAMPLES + num_completions, seed=rows.start
    )
    determined, exact = determined_pixels(samples[:, :NUM_EXACT_SAMPLES]), samples[:, NUM_EXACT_SAMPLES:]
    return dataclasses.replace(batch, factors=factors, exact=exact, determined=determined)


def factors_of(data: DataConfig, num_faces: int, split: Split = "eval", first: int = 0) -> Factors:
    """What procedural faces of a part are drawn from, from the one with index `first` on."""
    start = first + (PROCEDURAL_EVAL_START if split == "eval" else 0)
    return draw_factors(data.seed, np.arange(start, start + num_faces))


def draw_exact_samples(factors: Factors, height: int, width: int, num_samples: int, seed: int = 0) -> torch.Tensor:
    """Exact samples of p(bottom | top) for procedural faces, (N, num_samples, 3, H/2, W) uint8."""
    generator = np.random.default_rng(seed)
    drawn = [render(resample_free(factors, generator), height, width) for _ in range(num_samples)]
    return torch.from_numpy(np.stack(drawn, axis=1)[:, :, height // 2 :]).permute(0, 1, 4, 2, 3)
