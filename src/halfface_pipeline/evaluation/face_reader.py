"""The feature network `faces`: a small network that predicts the factors of procedural faces, and its training."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm

from ..config.schema import DataConfig, check_seed, require
from ..data.images import load_images
from ..data.procedural.factors import GLASSES, HAIR_COLOURS, SEEN_RANGES, Factors
from ..remote_code.image_io import to_signed
from ..run_folder.files import atomic_write, atomic_write_text
from .dataset import factors_of, to_tensor
from .factors import CLASSES, hair_colours, labels_of

WEIGHTS, DESCRIPTION = "faces.safetensors", "faces.json"
VERSION = 1
HEIGHT, WIDTH, DIM = 48, 40, 128
CHANNELS = (32, 64, 96, 128)
READ_CLASSES: dict[str, Collection[str]] = {
    "hair_colour": HAIR_COLOURS,
    "long_hair": ("short", "long"),
    "glasses": GLASSES,
    **CLASSES,
}
"""Categorical factors; those of `CLASSES` are free given the top half, the others are visible in it."""
READ_NUMBERS: dict[str, tuple[float, float]] = {
    "skin_lightness": (0.0, 1.0),
    **{
        name: SEEN_RANGES[name]
        for name in ("yaw", "roll", "hair_volume", "parting", "fringe", "light_x", "head_width")
    },
    "smile": (0.0, 1.0),
    "jaw": (-1.0, 1.0),
    "hair_end": (0.7, 1.05),
}
"""Numeric factors with their ranges."""
NUM_FACES, EPOCHS, BATCH_SIZE, LEARNING_RATE = 20_000, 5, 64, 2e-3
NUM_HELD_OUT = 2_000


class FaceReader(nn.Module):
    """A convolutional network whose features predict all factors of a procedural face by one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *CHANNELS), CHANNELS, strict=False):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        shrink = 2 ** len(CHANNELS)
        self.features = nn.Linear(CHANNELS[-1] * (HEIGHT // shrink) * (WIDTH // shrink), DIM)
        self.heads = nn.Linear(DIM, sum(map(len, READ_CLASSES.values())) + len(READ_NUMBERS))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (N, 128) of images (N, 3, 48, 40) in [-1, 1]."""
        found: torch.Tensor = self.features(self.layers(images))
        return found

    def read(self, features: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Logits (N, classes) by factor, and numbers (N, numbers) scaled to [-1, 1], of features (N, 128)."""
        sizes = [len(classes) for classes in READ_CLASSES.values()]
        *logits, numbers = self.heads(features).split([*sizes, len(READ_NUMBERS)], dim=1)
        return dict(zip(READ_CLASSES, logits, strict=True)), numbers


class Labels(NamedTuple):
    """The factors of N faces."""

    classes: dict[str, torch.Tensor]
    """(N,) integers by factor; -1 where it does not apply."""
    numbers: torch.Tensor
    """(N, numbers), scaled to [-1, 1]; NaN where one does not apply."""


def labels(factors: Factors) -> Labels:
    """The true values of `READ_CLASSES` and `READ_NUMBERS`."""
    classes = {
        "hair_colour": np.array([list(HAIR_COLOURS).index(name) for name in hair_colours(factors)]),
        "long_hair": factors.long_hair > 0.5,
        "glasses": factors.glasses,
        **labels_of(factors),
    }
    values = {name: getattr(factors, name) for name in READ_NUMBERS if name != "skin_lightness"}
    values["skin_lightness"] = factors.skin.mean(axis=1)
    values["hair_end"] = np.where(factors.long_hair > 0.5, factors.hair_end, np.nan)
    scaled = [2 * (values[name] - low) / (high - low) - 1 for name, (low, high) in READ_NUMBERS.items()]
    return Labels(
        {name: torch.from_numpy(np.asarray(classes[name]).astype(np.int64)) for name in READ_CLASSES},
        torch.from_numpy(np.stack(scaled, axis=1)).float(),
    )


def train_face_reader(
    out: Path, num_faces: int = NUM_FACES, epochs: int = EPOCHS, seed: int = 0, num_held_out: int = NUM_HELD_OUT
) -> dict[str, Any]:
    """Trains the network on procedural faces and writes its weights with its accuracy on further ones.

    The result is what faces.json holds: the settings, `accuracy` by factor with the share of the most frequent class,
    and `r2` of the numbers. ValueError if there are too few faces or epochs.
    """
    require(num_faces >= BATCH_SIZE, "num_faces", num_faces, f"at least {BATCH_SIZE}")
    require(epochs >= 1, "epochs", epochs, "at least 1")
    check_seed("seed", seed)
    data = DataConfig(height=HEIGHT, width=WIDTH, num_images=num_faces, num_eval_images=num_held_out)
    images = load_images(data, "train").images
    network = _train(images, labels(factors_of(data, num_faces, "train")), epochs, seed)
    description = {
        "version": VERSION,
        "height": HEIGHT,
        "width": WIDTH,
        "num_faces": num_faces,
        "epochs": epochs,
        "seed": seed,
        "num_held_out": num_held_out,
        **_measured(network, load_images(data, "eval").images, labels(factors_of(data, num_held_out))),
    }
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / WEIGHTS) as partial:
        save_file(network.state_dict(), partial)
    atomic_write_text(out / DESCRIPTION, json.dumps(description, indent=1) + "\n")
    return description


def _train(images: np.ndarray, truth: Labels, epochs: int, seed: int) -> FaceReader:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FaceReader()
    per_epoch = len(images) // BATCH_SIZE
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * per_epoch)
    generator = torch.Generator().manual_seed(seed)
    with tqdm(total=epochs * per_epoch, desc="training", unit="step") as bar:
        for _ in range(epochs):
            order = torch.randperm(len(images), generator=generator)
            for rows in order[: per_epoch * BATCH_SIZE].split(BATCH_SIZE):
                optimizer.zero_grad(set_to_none=True)
                _loss(network, to_signed(to_tensor(images[rows.numpy()])), truth, rows).backward()
                optimizer.step()
                schedule.step()
                bar.update()
    return network.eval()


def load_face_reader(folder: Path) -> FaceReader:
    """The network of a folder of `halfface features`, in evaluation mode; ValueError if it holds none."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        if description["version"] != VERSION:
            raise ValueError(f"its version is {description['version']}, here is {VERSION}")
        network = FaceReader()
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"features_path is {str(folder)!r}; it must be a folder of `halfface features`: {error}"
        ) from error
    return network.eval()


def _loss(network: FaceReader, images: torch.Tensor, truth: Labels, rows: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the classes plus squared error of the numbers, over the factors that apply."""
    logits, numbers = network.read(network(images))
    target = truth.numbers[rows]
    apart = (numbers - target.nan_to_num(0.0)).square()[~target.isnan()]
    losses = [F.cross_entropy(each, truth.classes[name][rows], ignore_index=-1) for name, each in logits.items()]
    return torch.stack(losses).mean() + apart.mean()


@torch.inference_mode()
def _measured(network: FaceReader, images: np.ndarray, truth: Labels) -> dict[str, Any]:
    found = [network.read(network(part)) for part in to_signed(to_tensor(images)).split(256)]
    accuracy, r2 = {}, {}
    for name, target in truth.classes.items():
        applies, predicted = target >= 0, torch.cat([logits[name] for logits, _ in found]).argmax(dim=1)
        counts = torch.bincount(target[applies])
        accuracy[name] = {
            "value": float((predicted == target)[applies].double().mean()),
            "most_frequent": float(counts.max() / counts.sum()),
            "num_faces": int(applies.sum()),
        }
    numbers = torch.cat([values for _, values in found])
    for name, predicted, target in zip(READ_NUMBERS, numbers.T, truth.numbers.T, strict=True):
        applies = ~target.isnan()
        error = (predicted - target)[applies].square().mean()
        r2[name] = float(1 - error / target[applies].var(correction=0))
    return {"accuracy": accuracy, "r2": r2}
