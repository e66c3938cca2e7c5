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

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data.images import ImageSet, load_images
from halfface_pipeline.evaluation.baselines import NearestTraining
from halfface_pipeline.evaluation.cache import Drawn
from halfface_pipeline.evaluation.collect import collect
from halfface_pipeline.evaluation.features import load_features
from halfface_pipeline.evaluation.metrics.realism import realism
from halfface_pipeline.evaluation.probes import Readers, summarise_readings
from halfface_pipeline.evaluation.slices import audit, columns_of
from halfface_pipeline.evaluation.summary import floor, summarise
from halfface_pipeline.evaluation.trials import EvaluationBatch, held_factors
from halfface_pipeline.inference.speed import keep_freed_memory
from halfface_pipeline.remote_code.halves import split

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
    faces = ImageSet(faces.images, faces.names, faces.attributes, faces.fingerprint, faces.skipped)

    def draw(trial: EvaluationBatch, first: int, seed: int) -> Drawn:
        rows = np.random.default_rng(first).integers(0, NUM_TRAINING, (len(trial.images), K))
        halves = split(torch.from_numpy(training.images[rows]).permute(0, 1, 4, 2, 3), "bottom")[1]
        return Drawn(halves, torch.ones(halves.shape[:2], dtype=torch.bool))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    nearest = NearestTraining(training, "bottom", NUM_TRAINING)
    read = {name: training.attributes[name] for name in READ}
    of_training = nearest.features(features)
    readers = Readers.fit(of_training, nearest.features(features, known_alone=True), read)
    found = collect(faces, data, "bottom", num_faces, K, draw, features, nearest=nearest, readers=readers)
    collected = time.perf_counter()
    summarise(found)
    summarise_readings(
        readers, faces.attributes, found.features["truth"], found.known_features, found.rows["other_face"]
    )
    rows = {name: each for name, each in found.features.items() if name != "other_face"}
    realism(rows["truth"], found.seed_features, rows, of_training)
    sets = time.perf_counter()
    columns = columns_of({}, held_factors(drawn, num_faces))
    audit(columns, found.rows["model"], floor(found), found.rows["other_face"])
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
