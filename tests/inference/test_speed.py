"""Speed modes of sampling: what they change, and by how little."""

import numpy as np
import pytest
import torch

from halfface_pipeline.diffusion.samplers import make_sampler
from halfface_pipeline.inference.speed import (
    FoldedUpsample,
    has_native_bf16,
    prepare_for_sampling,
    training_precision,
    use_dtype,
)
from tests.oracles import GaussianDenoiser


def drawn(pipe, speed):
    prepare_for_sampling(pipe, speed).set_progress_bar_config(disable=True)
    half = torch.linspace(0, 1, 3 * 10 * 16).reshape(3, 10, 16)
    generator = torch.Generator().manual_seed(0)
    return np.asarray(pipe(half, 4, 5, generator, output_type="np").hidden_halves)


def test_auto_takes_the_number_format_the_device_multiplies_and_draws_the_same(tiny_pipeline):
    pipe = prepare_for_sampling(tiny_pipeline(), "auto")
    native = has_native_bf16(pipe.device)
    assert {weight.dtype for weight in pipe.unet.parameters()} == {torch.bfloat16 if native else torch.float32}
    left = prepare_for_sampling(tiny_pipeline(), "safe")
    assert {weight.dtype for weight in left.unet.parameters()} == {torch.float32}
    fast, safe = drawn(tiny_pipeline(), "auto"), drawn(tiny_pipeline(), "safe")
    assert fast.dtype == safe.dtype == np.float32
    assert bool((fast != safe).any()) == native
    assert np.abs(fast - safe).mean() < 0.02 * np.abs(safe).mean()


def folded(pipe):
    return sum(isinstance(module, FoldedUpsample) for module in pipe.unet.modules())


def test_upsampling_is_folded_for_sampling_in_bfloat16_alone(tiny_pipeline):
    assert folded(use_dtype(tiny_pipeline(), "bfloat16")) == 1
    assert folded(use_dtype(tiny_pipeline(), "float32")) == 0


@pytest.mark.parametrize("name", ["dpm++", "ddpm", "ddim", "unipc", "euler"])
@pytest.mark.parametrize("deviation", [0.0, 0.2])
def test_exact_denoisers_in_bfloat16_draw_what_they_draw_in_float32(tiny_pipeline, name, deviation):
    drawn = {}
    for dtype in (torch.float32, torch.bfloat16):
        pipe = tiny_pipeline()
        pipe.unet = GaussianDenoiser(pipe.unet, pipe.scheduler.alphas_cumprod, 0.4, deviation, dtype=dtype)
        pipe.scheduler = make_sampler(name, pipe.scheduler)
        generator = torch.Generator().manual_seed(0)
        drawn[dtype] = pipe(torch.zeros(3, 10, 16), 16, 20, generator, output_type="pt").hidden_halves
    one_level = 2 / 255
    assert float((drawn[torch.bfloat16] - drawn[torch.float32]).abs().max()) < one_level


@pytest.mark.parametrize(
    ("speed", "asked", "native", "taken"),
    [
        ("auto", None, True, "bf16"),
        ("auto", None, False, None),
        ("auto", "no", True, "no"),
        ("auto", "fp16", True, "fp16"),
        ("safe", None, True, None),
    ],
)
def test_training_takes_bfloat16_where_it_is_native_and_nothing_else_was_asked(
    speed, asked, native, taken, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native}, raising=False)
    assert training_precision(speed, asked, torch.device("cpu")) == taken


def test_an_unknown_speed_is_refused(tiny_pipeline):
    with pytest.raises(ValueError, match="speed is 'fast'; it must be one of auto, safe"):
        prepare_for_sampling(tiny_pipeline(), "fast")
