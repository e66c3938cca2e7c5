"""The comparison of a generative prior with a conditional model."""

import pytest

from halfface_pipeline.config.schema import DataConfig, SamplingConfig
from halfface_pipeline.evaluation.dataset import load_batch
from halfface_pipeline.experiments.prior import default_methods, energy_score, prior
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
    )
    names = [row["sampler"] for row in result.rows]
    assert names == [
        "exact samples",
        "conditional ddpm 5",
        "conditional dpm++ 10",
        "replace",
        "repaint jump_length=1 resamplings=5",
        "tds num_particles=4",
    ]
    assert [row["evaluations"] for row in result.rows] == [None, 5, 10, 5, 5 + 4 * 4, 20]
    energy = [row["mean"] for row in result.details["intervals"] if row["measure"] == "energy_score"]
    assert energy[0] == min(energy)
    assert energy[0] == pytest.approx(float(energy_score(batch, batch.exact).mean()))
    for row in result.details["intervals"]:
        assert row["low"] <= row["mean"] <= row["high"]
    assert 1 <= result.rows[-1]["effective_sample_size"] <= 4


def test_one_completion_has_no_energy_score(tiny_pipeline, prior_pipe):
    conditional = tiny_pipeline()
    batch = load_batch(conditional, DataConfig(height=20, width=16, num_eval_images=2), 2, 1)
    with pytest.raises(ValueError, match="n is 1; the energy score needs at least 2 completions"):
        prior(prior_pipe, conditional, batch, SamplingConfig(num_completions=1), {})
