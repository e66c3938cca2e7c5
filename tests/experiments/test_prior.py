"""The comparison of a generative prior with a conditional model."""

import numpy as np
import PIL.Image
import pytest

from halfface_pipeline.config.schema import DataConfig, SamplingConfig
from halfface_pipeline.evaluation.dataset import load_batch
from halfface_pipeline.experiments.prior import box_energy_score, default_methods, energy_score, prior
from tests.conftest import tiny_prior


@pytest.fixture(scope="module")
def prior_pipe():
    return tiny_prior()


def test_the_table_has_a_row_per_sampler_and_exact_samples_are_best(tiny_pipeline, prior_pipe):
    conditional = tiny_pipeline(prediction_type="v_prediction")
    batch = load_batch(conditional, DataConfig(height=20, width=16, num_eval_images=8), 8, 3)
    methods = {name: default_methods(5)[name] for name in ("replace", "repaint", "tds")}
    result = prior(
        prior_pipe,
        conditional,
        batch,
        SamplingConfig(num_inference_steps=5, num_completions=3),
        methods,
        gaussian_steps=(12,),
        masked=tiny_prior(hidden_half="any"),
    )
    names = [row["sampler"] for row in result.rows]
    assert names == [
        "exact samples",
        "conditional ddpm 5",
        "conditional dpm++ 10",
        "any mask ddpm 5",
        "any mask dpm++ 10",
        "replace",
        "repaint jump_length=1 resamplings=5",
        "tds num_particles=4",
    ]
    assert [row["evaluations"] for row in result.rows] == [None, 5, 10, 5, 10, 5, 5 + 4 * 4, 20]
    assert [row["box_energy_score"] is None for row in result.rows] == [True] * 3 + [False] * 5
    energy = [row["mean"] for row in result.details["intervals"] if row["measure"] == "energy_score"]
    assert energy[0] == min(energy)
    assert energy[0] == pytest.approx(float(energy_score(batch, batch.exact).mean()))
    for row in result.details["intervals"]:
        assert row["low"] <= row["mean"] <= row["high"]
    assert 1 <= result.rows[-1]["effective_sample_size"] <= 4


def test_the_score_of_the_box_is_of_the_pixels_in_it(tiny_pipeline):
    """Completions that are the truth but for one grey level have the score 1/255 inside the box, and 0 outside."""
    batch = load_batch(tiny_pipeline(), DataConfig(height=20, width=16, num_eval_images=2), 2, 2)
    for rows, columns, expected in ((slice(5, 15), slice(4, 12), 1 / 255), (slice(0, 5), slice(0, 16), 0)):
        images = np.repeat(np.stack([np.array(image) for image in batch.originals]), 2, axis=0)
        images[:, rows, columns] ^= 1
        found = box_energy_score(batch, [PIL.Image.fromarray(image) for image in images])
        assert found.tolist() == pytest.approx([expected] * 2, abs=1e-6)


def test_one_completion_has_no_energy_score(tiny_pipeline, prior_pipe):
    conditional = tiny_pipeline()
    batch = load_batch(conditional, DataConfig(height=20, width=16, num_eval_images=2), 2, 1)
    with pytest.raises(ValueError, match="n is 1; the energy score needs at least 2 completions"):
        prior(prior_pipe, conditional, batch, SamplingConfig(num_completions=1), {})
