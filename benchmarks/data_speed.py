"""Photographs a second: decoded each time, prepared once, read from the cache, gathered for a step; prints JSON.

`python benchmarks/data_speed.py [--images N] [--batch N]`. The photographs: procedural faces as JPEG of CelebA's size.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from timing import interleaved, machine

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data.images import load_images
from halfface_pipeline.data.procedural import faces
from halfface_pipeline.remote_code.image_io import to_signed

CELEBA_SIZE, SIZE, ROUNDS = (218, 178), (112, 88), 9


def main() -> None:
    """Prepares a folder of photographs once, then gathers batches of it as training does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder, "photos")
        photos.mkdir()
        for number, image in enumerate(faces(options.images, *CELEBA_SIZE)[0]):
            PIL.Image.fromarray(image).save(photos / f"{number:05d}.jpg", quality=90)
        data = DataConfig(
            source="imagefolder",
            path=str(photos),
            height=SIZE[0],
            width=SIZE[1],
            cache_dir=str(Path(folder, "cache")),
        )
        start = time.perf_counter()
        images = load_images(data, "train", progress=False).images
        prepared = time.perf_counter() - start
        start = time.perf_counter()
        load_images(data, "train", progress=False)
        opened = time.perf_counter() - start
        chosen = np.random.default_rng(0).integers(len(images), size=options.batch)
        files = sorted(photos.iterdir())

        def decode() -> None:
            for index in chosen:
                with PIL.Image.open(files[index]) as opened_file:
                    np.asarray(opened_file.convert("RGB").resize(SIZE[::-1], PIL.Image.Resampling.LANCZOS))

        def gather() -> torch.Tensor:
            return to_signed(torch.from_numpy(images[chosen]).permute(0, 3, 1, 2))

        seconds = interleaved({"decoded each time": decode, "from the cache": gather}, ROUNDS)
    rates = {name: options.batch / statistics.median(taken) for name, taken in seconds.items()}
    result = {
        "images_per_second": {
            "prepared once": round(options.images / prepared),
            **{name: round(rate) for name, rate in rates.items()},
        },
        "times_faster": round(rates["from the cache"] / rates["decoded each time"], 1),
        "seconds_to_open_the_cache": round(opened, 3),
        "gib_for_celeba": round(202_599 * SIZE[0] * SIZE[1] * 3 / 2**30, 1),
    }
    print(json.dumps({"benchmark": "data_speed", **machine(), "images": options.images, **result}, indent=1))


if __name__ == "__main__":
    main()
