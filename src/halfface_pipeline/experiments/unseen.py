"""Faces of the training set compared with held-out faces (the report's figure 18)."""

from ..config.schema import SamplingConfig
from ..evaluation.cache import complete
from ..evaluation.dataset import EvaluationBatch
from ..evaluation.measure import scores_per_face
from ..inference.sheets import sheet
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from .results import Result, Row
from .sampling import COLUMNS

SHOWN_FACES = 4


def unseen(
    pipe: HalfFaceInpaintPipeline,
    trained_on: EvaluationBatch,
    held_out: EvaluationBatch,
    sampling: SamplingConfig,
    batch_size: int = 32,
) -> Result:
    """Completes training faces and held-out faces, and measures the gap with its standard error, a row per metric."""
    num_completions, steps, seed = sampling.num_completions, sampling.num_inference_steps, sampling.seed
    values, truths, originals, pictures = [], [], [], []
    for label, faces in (("trained on", trained_on), ("held out", held_out)):
        images, hidden = complete(pipe, faces.images, sampling, batch_size, label)
        values.append(scores_per_face(faces, hidden))
        truths.append(scores_per_face(faces, faces.truth[:, None] if faces.exact is None else faces.exact))
        originals += faces.originals[:SHOWN_FACES]
        pictures += images[: SHOWN_FACES * num_completions]
    rows: list[Row] = []
    for name, seen in values[0].items():
        new, own = values[1][name], [truth.get(name) for truth in truths]
        known = [float(part.mean()) if part is not None else None for part in own]
        gap = float(new.mean() - seen.mean())
        rows.append(
            {
                "measure": name.replace("_", " "),
                "trained_on": float(seen.mean()),
                "held_out": float(new.mean()),
                "gap": gap,
                "standard_error": float((new.var() / len(new) + seen.var() / len(seen)).sqrt()),
                "truth_trained_on": known[0],
                "truth_held_out": known[1],
            }
        )
    settings = {
        "scheduler": type(pipe.scheduler).__name__,
        "num_inference_steps": steps,
        "num_faces": len(held_out.images),
        "num_completions": num_completions,
        "seed": seed,
    }
    columns = {
        "gap": "held out minus trained on",
        "standard_error": "of the gap, over faces",
        "truth_held_out": "the same measure of the real halves, or of exact samples of procedural faces",
        **{name: meaning for name, meaning in COLUMNS.items() if name in values[0]},
    }
    return Result(sheet(originals, pictures, ("original", "completions")), rows, settings, columns)
