"""The sampler as numbers, against the pipeline that runs diffusers' scheduler."""

import copy

import pytest
import torch

from halfface_pipeline.diffusion.distillation import distilled_scheduler
from halfface_pipeline.diffusion.samplers import make_sampler
from halfface_pipeline.export.onnx_network import HalfNetwork
from halfface_pipeline.export.sampling_plan import sampling_plan
from halfface_pipeline.remote_code.halves import from_canonical


def run_plan(plan, network, known, noise):
    """The loop that `sampling_plan` documents."""
    x, p = noise, torch.zeros_like(noise)
    for step in plan["steps"]:
        o = network(x, known, torch.tensor([float(step["timestep"])]))
        clean = step["clean_x"] * x + step["clean_o"] * o
        x, p = step["next_x"] * x + step["next_o"] * o + step["next_p"] * p, clean
    return x


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("steps", [1, 2, 10, 30])
@torch.no_grad()
def test_the_linear_steps_give_the_pipelines_completion(tiny_pipeline, prediction_type, steps):
    pipe = tiny_pipeline(hidden_half="right", known_layout="stacked", prediction_type=prediction_type)
    half = torch.rand(3, 20, 8, generator=torch.Generator().manual_seed(1))
    sampled = copy.copy(pipe)
    sampled.scheduler = make_sampler("dpm++", pipe.scheduler)
    want = sampled(half, 1, steps, torch.Generator().manual_seed(3), output_type="latent").images
    noise = torch.randn(1, *pipe.latent_shape, generator=torch.Generator().manual_seed(3))
    got = run_plan(sampling_plan(pipe, steps), HalfNetwork(pipe), (half * 2 - 1)[None], from_canonical(noise, "right"))
    torch.testing.assert_close(got.clamp(-1, 1), want, rtol=0, atol=5e-5)


def test_the_plan_says_where_it_is(tiny_pipeline):
    pipe = tiny_pipeline(prediction_type="v_prediction")
    plan = sampling_plan(pipe, 4)
    assert (plan["sampler"], plan["prediction_type"]) == ("dpm++", "v_prediction")
    assert plan["steps"][0]["timestep"] == 999
    for step in plan["steps"]:
        abar = pipe.scheduler.alphas_cumprod[step["timestep"]].item()
        assert step["alphas_cumprod"] == pytest.approx(abar)
        # v = sqrt(abar) eps - sqrt(1 - abar) x0 (Salimans and Ho 2022)
        assert step["clean_x"] == pytest.approx(abar**0.5, rel=1e-3)
        assert step["clean_o"] == pytest.approx(-((1 - abar) ** 0.5), rel=1e-3)


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_number_of_steps_out_of_range_is_refused(tiny_pipeline, steps):
    with pytest.raises(ValueError, match=f"steps is {steps}; it must be from 1 to 1000"):
        sampling_plan(tiny_pipeline(), steps)


def test_a_distilled_model_is_refused(tiny_pipeline):
    pipe = tiny_pipeline()
    pipe.scheduler = distilled_scheduler(pipe.scheduler, 4)
    with pytest.raises(ValueError, match=r"the model is distilled; the page samples by dpm\+\+"):
        sampling_plan(pipe)
