"""`halfface features`: trains the feature network of procedural faces."""

import argparse
import time

from ..evaluation.face_reader import EPOCHS, NUM_FACES, train_face_reader
from .options import add_out, add_seed, output_folder
from .parser import Parser


def add_arguments(parser: Parser) -> None:
    """Describes the command `features`."""
    parser.describe(
        "Train a small network that predicts the factors of procedural faces; `halfface evaluate "
        "--features faces --features-path DIR` measures distances in its features.",
        example="halfface features --out runs/features",
    )
    parser.add_argument("--num-faces", type=int, default=NUM_FACES, help=f"faces to train on (default {NUM_FACES})")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"passes over them (default {EPOCHS})")
    add_seed(parser, "seed of the training")
    add_out(parser)
    parser.set_defaults(command=_features)


def _features(options: argparse.Namespace) -> None:
    out, start = output_folder(options.out), time.perf_counter()
    found = train_face_reader(out, options.num_faces, options.epochs, options.seed)
    print("| factor | accuracy | most frequent class |\n| --- | --- | --- |")
    for name, value in found["accuracy"].items():
        print(f"| {name.replace('_', ' ')} | {value['value']:.1%} | {value['most_frequent']:.1%} |")
    print("\n| number | variance explained |\n| --- | --- |")
    for name, value in found["r2"].items():
        print(f"| {name.replace('_', ' ')} | {value:.1%} |")
    print(f"\n{found['num_held_out']} held-out faces; {time.perf_counter() - start:.0f} seconds")
    print(f"use it: halfface evaluate --features faces --features-path {out} ...")
