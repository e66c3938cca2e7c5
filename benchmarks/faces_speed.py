"""Procedural faces a second on one core, at the demo's size and at a photograph's; prints JSON."""

import json
import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

from halfface_pipeline.data.procedural import faces

SIZES = {(48, 40): 512, (112, 88): 128}
RUNS = 5


def main() -> None:
    """Times drawing and rendering together, sizes interleaved, after one warm-up run."""
    rates: dict[tuple[int, int], list[float]] = {size: [] for size in SIZES}
    for run in range(RUNS + 1):
        for (height, width), num in SIZES.items():
            start = time.perf_counter()
            faces(num, height, width, start=run * num)
            if run:
                rates[height, width].append(num / (time.perf_counter() - start))
    result = {
        f"{height}x{width}": {
            "images_per_second": round(statistics.median(measured)),
            "slowest": round(min(measured)),
            "fastest": round(max(measured)),
        }
        for (height, width), measured in rates.items()
    }
    print(json.dumps({"benchmark": "faces_speed", "runs": RUNS, **result}))


if __name__ == "__main__":
    main()
