"""`halfface features`: trains the feature network that reads procedural faces."""

import argparse
import time
from typing import Any

from ..evaluation.face_reader import EPOCHS, NUM_FACES, train_face_reader
from .options import output_folder


def add_features(commands: Any) -> None:
    """Adds the command to a parser's commands."""
    parser = commands.add_parser(
        "features",
        help="train the feature network `faces` of evaluate",
        description="Train a small network that reads the factors of procedural faces; `halfface evaluate --features "
        "faces --features-path DIR` takes distances in its features.",
        example="halfface features --out runs/features",
    )
    parser.add_argument("--num-faces", type=int, default=NUM_FACES, help=f"faces to train on (default {NUM_FACES})")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"passes over them (default {EPOCHS})")
    parser.add_argument("--seed", type=int, default=0, help="makes the training repeatable (default 0)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
    parser.set_defaults(command=_features)


def _features(options: argparse.Namespace) -> None:
    out, start = output_folder(options.out), time.perf_counter()
    found = train_face_reader(out, options.num_faces, options.epochs, options.seed)
    print("| factor | read rightly | most frequent class |\n| --- | --- | --- |")
    for name, value in found["accuracy"].items():
        print(f"| {name.replace('_', ' ')} | {value['value']:.1%} | {value['most_frequent']:.1%} |")
    print("\n| number | variance explained |\n| --- | --- |")
    for name, value in found["r2"].items():
        print(f"| {name.replace('_', ' ')} | {value:.1%} |")
    print(f"\n{found['num_held_out']} held-out faces; {time.perf_counter() - start:.0f} seconds")
    print(f"use it: halfface evaluate --features faces --features-path {out} ...")
