"""What moves a reading besides the face: true halves spoilt one way at a time; prints Markdown, then JSON.

    python benchmarks/what_readings_see.py [DATA] [FEATURES] [COLUMNS] [HEIGHTxWIDTH]

DATA is `procedural` or a folder of photographs with train and test parts. Readers are fitted to up to 2,000 training
faces and read up to 256 held-out ones, as `halfface evaluate --read COLUMNS` does.
"""

import json
import sys
from dataclasses import asdict

import numpy as np
import torch
from what_measures_see import SPOILT

from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data.images import load_images
from halfface_pipeline.diffusion.halves import split
from halfface_pipeline.evaluation.features import load_features
from halfface_pipeline.evaluation.probes import fit_probes
from halfface_pipeline.evaluation.statistics import agreement_estimates, mean_estimate
from halfface_pipeline.remote_code.halves import join

NUM_TRAINING, NUM_FACES = 2000, 256
KINDS = ("blur", "noise", "lighter by 0.05", "redder", "swapped")


def main() -> None:
    """Prints how far each kind of damage to the true bottom half shifts each reading."""
    words = dict(enumerate(sys.argv[1:]))
    source, features = words.get(0, "procedural"), load_features(words.get(1, "pixels"))
    columns = words.get(2, "beard,hair_end,jaw,yaw,smile").split(",")
    height, width = map(int, words.get(3, "48x40").split("x"))
    data = DataConfig(height=height, width=width, num_images=NUM_TRAINING, num_eval_images=NUM_FACES)
    if source != "procedural":
        data = DataConfig("imagefolder", source, train_split="train", eval_split="test", height=height, width=width)
    training, faces = load_images(data, "train", progress=False), load_images(data, "eval", progress=False)
    whole = [torch.from_numpy(np.array(part.images)).permute(0, 3, 1, 2) for part in (training, faces)]
    readers = fit_probes(features(whole[0][:NUM_TRAINING]), {name: training.attributes[name] for name in columns})
    known, hidden = split(whole[1], "bottom")
    truth, found = features(whole[1]), {}
    for kind in KINDS:
        spoilt = (SPOILT[kind](hidden[:, None] / 255).clamp(0, 1) * 255).round().to(torch.uint8)[:, 0]
        read = features(join(known, spoilt, "bottom"))
        found[kind] = {name: asdict(mean_estimate(reader(read) - reader(truth))) for name, reader in readers.items()}
    lines = ["| column | correlation | deviation | " + " | ".join(KINDS) + " |", "| --- " * (len(KINDS) + 3) + "|"]
    for name, reader in readers.items():
        rated = torch.from_numpy(faces.attributes[name].copy())
        agreed = agreement_estimates(reader(truth), rated)["correlation"].value
        shifts = [found[kind][name] for kind in KINDS]
        cells = [f"{shift['value']:+.2f} [{shift['low']:+.2f}, {shift['high']:+.2f}]" for shift in shifts]
        lines.append(f"| {name} | {agreed:.2f} | {float(rated.std()):.2f} | " + " | ".join(cells) + " |")
    print("\n".join(lines))
    print(json.dumps({"benchmark": "what_readings_see", "features": features.name, "table": found}))


if __name__ == "__main__":
    main()
