"""One model under many samplers; an exact denoiser says what must come out."""

import math

import numpy as np
import pytest
import torch

from halfface_pipeline.config.schema import DataConfig, SamplingConfig
from halfface_pipeline.diffusion.samplers import make_sampler
from halfface_pipeline.evaluation.dataset import load_batch
from halfface_pipeline.experiments.sampling import Setup, samplers, step_size, variance
from halfface_pipeline.experiments.unseen import unseen
from tests.oracles import GaussianDenoiser

TWO = SamplingConfig(num_completions=2, num_inference_steps=2)
DATA = DataConfig(height=48, width=40, num_images=3, num_eval_images=3)


@pytest.fixture
def exact_pipeline(tiny_pipeline):
    """A model that knows every image is the same grey."""
    pipe = tiny_pipeline(48, 40)
    pipe.unet = GaussianDenoiser(pipe.unet, pipe.scheduler.alphas_cumprod, mean=0.2, deviation=0.0)
    return pipe


@pytest.fixture
def trial(tiny_pipeline):
    return load_batch(tiny_pipeline(48, 40), DATA, 2, 2)


def test_beta_leaves_the_predicted_noise(tiny_pipeline, trial):
    """Pixels of deviation 0.2: what a sample has beyond that is noise which the last step could not take away."""
    pipe = tiny_pipeline(48, 40)
    pipe.unet = GaussianDenoiser(pipe.unet, pipe.scheduler.alphas_cumprod, mean=0.0, deviation=0.2)
    result = variance(Setup(pipe, trial, SamplingConfig(num_completions=12)), step_sizes=[40], matching="log_snr")
    rows = {(row["step_size"], row["variance"]): row for row in result.rows[:-1]}
    predicted = math.sqrt(1e-4 + (0.7961 - 1e-4) / 24) / 2
    assert predicted == pytest.approx(0.091, abs=5e-4)
    large, small = rows[40, "fixed_large"], rows[40, "fixed_small"]
    assert large["predicted_noise"] == pytest.approx(predicted, abs=1e-7) and small["predicted_noise"] < 0.006
    assert large["residual_noise"] ** 2 - 0.1**2 == pytest.approx(predicted**2, rel=0.2)
    assert small["residual_noise"] < 0.101


def test_comparisons_share_their_initial_noise(tiny_pipeline, trial):
    pipe, starts = tiny_pipeline(48, 40), []
    trained, called = pipe.scheduler, []

    def remember(module, given):
        called.append(given[0][:, :3].clone())

    pipe.unet.register_forward_pre_hook(remember)
    result = step_size(Setup(pipe, trial, TWO), step_sizes=[40, 50])
    assert pipe.scheduler is trained
    assert [(row["step_size"], row["matching"]) for row in result.rows[:-1]] == [
        (size, matching) for matching in ("proportional", "log_snr", "exact") for size in (40, 50)
    ]
    assert [row["network_calls"] for row in result.rows[:-1]] == [25, 20] * 3
    assert result.rows[-1]["step_size"] == "exact samples" and result.rows[-1]["spread_over_exact"] == 1
    for steps in [25, 20] * 3:
        starts.append(called[0])
        called = called[steps:]
    assert not called and all(torch.equal(start, starts[0]) for start in starts)
    assert result.picture.width == 4 + 7 * 84 and result.picture.height == 16 + 4 * 100
    assert result.rows[2]["predicted_noise"] is not None and result.rows[4]["predicted_noise"] is None


def test_samplers_are_exact_on_one_grey_in_few_steps(exact_pipeline, trial):
    result = samplers(Setup(exact_pipeline, trial, TWO), ["ddim", "heun"], [5, 10])
    assert [row["network_calls"] for row in result.rows[:-1]] == [5, 10, 9, 19]
    grey = round((0.2 + 1) * 127.5)
    wrong = np.abs(trial.truth.permute(0, 2, 3, 1).numpy().astype(int) - grey) / 255
    decided = trial.determined.numpy()
    expected = np.mean([wrong[i][decided[i]].mean() for i in range(2)])
    for row in result.rows[:-1]:
        assert row["determined_pixel_error"] == pytest.approx(expected, abs=2e-3)
        assert row["residual_noise"] == 0 and row["spread"] == 0


def test_unseen_measures_both_splits_and_the_gap(exact_pipeline):
    pipe = exact_pipeline
    pipe.scheduler = make_sampler("ddim", pipe.scheduler)
    parts = [load_batch(pipe, DATA, 3, 2, split) for split in ("train", "eval")]
    assert not torch.equal(parts[0].truth, parts[1].truth)
    result = unseen(pipe, *parts, TWO)
    rows = {row["measure"]: row for row in result.rows}
    seam = rows["seam gradient"]
    expected = []
    for part in parts:
        grey = round((0.2 + 1) * 127.5)
        expected.append((part.known[:, :, -1].float() - grey).abs().mean(dim=(1, 2)) / 255)
    assert seam["trained_on"] == pytest.approx(float(expected[0].mean()), abs=1e-3)
    assert seam["held_out"] == pytest.approx(float(expected[1].mean()), abs=1e-3)
    assert seam["gap"] == pytest.approx(seam["held_out"] - seam["trained_on"])
    error = math.sqrt(sum(float(part.var()) / 3 for part in expected))
    assert seam["standard_error"] == pytest.approx(error, rel=0.05)
    assert rows["determined pixel error"]["truth_held_out"] < 0.005
    assert result.picture.height == 16 + 6 * 100
