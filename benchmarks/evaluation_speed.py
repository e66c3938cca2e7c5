"""Seconds and memory of every measure, completions given: 1,000 faces at 112x88, 4 completions each; prints JSON.

    python benchmarks/evaluation_speed.py [NUM_FACES] [SOURCE] [FEATURES]

SOURCE is `photographs` (the faces are taken for photographs) or `procedural` (their exact answers are drawn as well).
"""

import json
import resource
import sys
import time

import numpy as np
import torch

from halfface_pipeline.config.schema import DataConfig, SamplingConfig
from halfface_pipeline.data.images import load_images
from halfface_pipeline.diffusion.halves import split
from halfface_pipeline.evaluation.baselines import NearestTraining
from halfface_pipeline.evaluation.cache import Completed
from halfface_pipeline.evaluation.columns import factor_columns
from halfface_pipeline.evaluation.config import EvaluationConfig
from halfface_pipeline.evaluation.dataset import factors_of
from halfface_pipeline.evaluation.features import load_features
from halfface_pipeline.evaluation.measure import measure_faces
from halfface_pipeline.evaluation.metrics.distribution import set_distances
from halfface_pipeline.evaluation.probes import evaluate_probes, fit_probes
from halfface_pipeline.evaluation.slices import audit
from halfface_pipeline.evaluation.summary import summarise
from halfface_pipeline.inference.speed import keep_freed_memory

HEIGHT, WIDTH, K, NUM_TRAINING = 112, 88, 4, 2000
READ = ("beard", "hair_end", "mouth_gap", "yaw", "hair_volume", "light_x", "lipstick", "head_width", "jaw")


def main() -> None:
    """Measures the halves of other training faces as if they were completions."""
    keep_freed_memory()
    num_faces = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    source = sys.argv[2] if len(sys.argv) > 2 else "photographs"
    features = load_features(sys.argv[3] if len(sys.argv) > 3 else "pixels")
    drawn = DataConfig(height=HEIGHT, width=WIDTH, num_images=NUM_TRAINING, num_eval_images=num_faces)
    training, faces = load_images(drawn, "train"), load_images(drawn, "eval")
    data = drawn if source == "procedural" else DataConfig("imagefolder", ".", height=HEIGHT, width=WIDTH)

    def complete(images: np.ndarray, first: int, seed: int) -> Completed:
        rows = np.random.default_rng(first).integers(0, NUM_TRAINING, (len(images), K))
        halves = split(torch.from_numpy(training.images[rows]).permute(0, 1, 4, 2, 3), "bottom")[1]
        return Completed(halves, torch.ones(halves.shape[:2], dtype=torch.bool))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    nearest = NearestTraining(training, "bottom", NUM_TRAINING)
    read = {name: training.attributes[name] for name in READ}
    of_training = nearest.features(features)
    probes = fit_probes(of_training, read)
    known_probes = fit_probes(nearest.features(features, known_alone=True), read)
    config = EvaluationConfig(SamplingConfig(num_faces=num_faces, num_completions=K))
    found = measure_faces(faces, data, "bottom", config, complete, features, nearest, probes)
    collected = time.perf_counter()
    summarise(found)
    measured = found.features["truth"], found.known_features, found.rows["other_face"]
    evaluate_probes(probes, known_probes, faces.attributes, *measured)
    rows = {name: each for name, each in found.features.items() if name != "other_face"}
    set_distances(rows, found.seed_features, of_training)
    sets = time.perf_counter()
    columns = factor_columns(factors_of(drawn, num_faces))
    audit(columns, found.rows["model"], found.floor, found.rows["other_face"])
    end = time.perf_counter()
    result = {
        "num_faces": num_faces,
        "source": source,
        "features": features.name,
        "threads": torch.get_num_threads(),
        "seconds": round(end - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "seconds_measures": round(collected - start, 1),
        "seconds_intervals_and_sets": round(sets - collected, 1),
        "seconds_audit": round(end - sets, 1),
        "audited_columns": len(columns),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "of_which_before_mib": round(before / 1024),
    }
    print(json.dumps({"benchmark": "evaluation_speed", **result}))


if __name__ == "__main__":
    main()
