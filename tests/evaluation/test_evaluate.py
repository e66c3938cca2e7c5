"""The whole evaluation on a tiny model."""

import json

import pytest

from halfface_pipeline.config import DataConfig
from halfface_pipeline.evaluation.evaluate import as_markdown, evaluate

DATA = DataConfig(height=48, width=40, num_eval_images=6)


def test_procedural_faces_are_measured_beside_exact_redraws_and_another_face(tiny_pipeline, tmp_path):
    pipe = tiny_pipeline(48, 40)
    metrics = evaluate(pipe, DATA, tmp_path / "out", num_faces=6, num_completions=2, num_inference_steps=2)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    error = metrics["measures"]["determined_pixel_error"]
    assert 0 <= error["floor"] < 0.005 < 0.05 < error["ceiling"] < error["model"]
    noise = metrics["measures"]["residual_noise"]
    assert noise["floor"] < 0.02 < noise["model"]
    assert metrics["measures"]["spread"]["ceiling"] is None
    table = (tmp_path / "out" / "metrics.md").read_text()
    assert table == as_markdown(metrics)
    assert (
        f"| determined pixel error | {error['model']:.4f} | {error['floor']:.4f} | {error['ceiling']:.4f} |" in table
    )
    assert (tmp_path / "out" / "completions.png").exists()


def test_other_halves_are_measured_without_the_exact_answer(tiny_pipeline, tmp_path):
    pipe = tiny_pipeline(48, 40, hidden_half="left")
    metrics = evaluate(pipe, DATA, tmp_path, num_faces=4, num_completions=2, num_inference_steps=1)
    assert set(metrics["measures"]) == {"residual_noise", "seam_gradient", "seam_colour_difference", "spread"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_faces": 7}, "num_faces is 7; the held-out part has 6"),
        ({"num_faces": 1}, "num_faces is 1"),
        ({"num_faces": 2, "num_completions": 1}, "num_completions is 1"),
    ],
)
def test_too_few_faces_or_completions_are_refused(tiny_pipeline, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate(tiny_pipeline(48, 40), DATA, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
