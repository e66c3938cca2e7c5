"""The report's network: its sizes, its parts against known answers, saving and loading."""

import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, DiffusionPipeline

import halfface_pipeline
from halfface_pipeline import HalfFaceInpaintPipeline, ReportNetwork
from halfface_pipeline.config.files import parse_arguments
from halfface_pipeline.config.schema import NoiseConfig
from halfface_pipeline.diffusion.networks import build_network, num_parameters
from halfface_pipeline.diffusion.samplers import training_scheduler
from halfface_pipeline.remote_code.report_network import ResNetBlock, SelfAttention
from tests.conftest import TINY_REPORT_MODEL

CONFIGS = Path(__file__).parents[2] / "configs"
REPORTED = {"report_4m": 4.50e6, "report_24m": 24e6, "report_24m_fault": 24e6, "report_31m": 31e6, "report_37m": 37e6}


def network_of(name):
    """The network of a shipped configuration, without its numbers."""
    config, _ = parse_arguments(["--config", str(CONFIGS / f"{name}.yaml")])
    with torch.device("meta"):
        return build_network(config.model, config.data.height, config.data.width)


@pytest.mark.parametrize("name", REPORTED)
def test_parameters_are_within_a_tenth_of_what_the_report_says(name):
    assert num_parameters(network_of(name)) == pytest.approx(REPORTED[name], rel=0.1)


def test_attention_is_where_the_report_had_it():
    def attention(name):
        return [place for place, part in network_of(name).named_modules() if isinstance(part, SelfAttention)]

    assert attention("report_24m") == attention("report_4m") == []
    assert attention("report_37m") == ["bottleneck.1", "bottleneck.3", "bottleneck.5"]
    levels = [f"{side}.{level}.1" for side in ("encoder", "decoder") for level in range(4)]
    assert sorted(attention("report_31m")) == sorted(["bottleneck.1", *levels])


def test_a_small_network_has_the_parameters_counted_by_hand():
    """Double convolutions 1 -> 4 -> 8: 3x3 convolutions 9ab + b, normalizations 2b each, 2x2 ones 4aa + a."""

    def double(a, b):
        return 9 * a * b + b + 2 * b + 9 * b * b + b + 2 * b

    encoder = double(1, 4) + (9 * 16 + 4) + double(4, 8) + (9 * 64 + 8)
    decoder = (4 * 64 + 8) + double(16, 4) + (4 * 16 + 4) + double(8, 4)
    mlp = (8 + 8) + (64 + 8)
    network = ReportNetwork((8, 8), 1, 1, (4, 8), "double", "bottleneck", 0)
    assert num_parameters(network) == encoder + double(8, 8) + decoder + (9 * 4 + 1) + mlp


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = SelfAttention(8), torch.nn.MultiheadAttention(8, 4, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.to_qkv.weight,
            "in_proj_bias": ours.to_qkv.bias,
            "out_proj.weight": ours.to_out.weight,
            "out_proj.bias": ours.to_out.bias,
        }
    )
    x = torch.randn(2, 8, 3, 5)
    positions = ours.norm(x.flatten(2).transpose(1, 2))
    gathered = theirs(positions, positions, positions)[0].transpose(1, 2).reshape(2, 8, 3, 5)
    torch.testing.assert_close(ours(x), x + gathered)


def test_a_resnet_block_adds_its_skip_before_the_leaky_relu():
    block, wider, x = ResNetBlock(4, 4).eval(), ResNetBlock(4, 6).eval(), torch.randn(2, 4, 5, 5)
    for part in (*block.inside, *wider.inside):
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.zeros_(part.weight)
            torch.nn.init.zeros_(part.bias)
    torch.testing.assert_close(block(x), torch.where(x > 0, x, 0.01 * x))
    skipped = wider.skip(x)
    torch.testing.assert_close(wider(x), torch.where(skipped > 0, skipped, 0.01 * skipped))
    assert wider.skip.kernel_size == (1, 1)
    assert [type(part).__name__ for part in block.inside] == ["Conv2d", "BatchNorm2d", "LeakyReLU"] + [
        "Conv2d",
        "BatchNorm2d",
    ]


@pytest.mark.parametrize("time_embedding", ["input", "bottleneck"])
def test_the_time_mlp_sees_t_over_t_max_and_its_answer_goes_where_it_should(time_embedding):
    torch.manual_seed(0)
    network = ReportNetwork((8, 16), block_out_channels=(4, 8), time_embedding=time_embedding, num_raa_blocks=0).eval()
    place = network.encoder[0] if time_embedding == "input" else network.bottleneck
    seen = {}
    network.time_mlp.register_forward_hook(lambda part, inputs, output: seen.update(t=inputs[0], embedded=output))
    place.register_forward_pre_hook(lambda part, inputs: seen.update(x=inputs[0]))
    network.down[-1].register_forward_hook(lambda part, inputs, output: seen.update(latent=output))
    sample = torch.randn(2, 6, 8, 16)
    answers = [network(sample, t, return_dict=False)[0] for t in (499, 499.0, torch.tensor([499, 499]))]
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])
    torch.testing.assert_close(seen["t"], torch.full((2, 1), 0.5))
    if time_embedding == "input":
        expected = torch.cat([sample, seen["embedded"].reshape(2, 1, 8, 16)], dim=1)
    else:
        expected = seen["latent"] + seen["embedded"].reshape(2, 8, 1, 1).expand(2, 8, 2, 4)
    assert torch.equal(seen["x"], expected)
    both = network(sample, torch.tensor([0, 999])).sample
    torch.testing.assert_close(seen["t"], torch.tensor([[1 / 1000], [1.0]]))
    assert both.shape == (2, 3, 8, 16) and not torch.equal(both, answers[0])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="conv_block is 'quadruple'; it must be one of double, triple, resnet"):
        ReportNetwork(conv_block="quadruple")
    with pytest.raises(ValueError, match="time_embedding is 'nowhere'; it must be one of input, bottleneck"):
        ReportNetwork(time_embedding="nowhere")
    with pytest.raises(ValueError, match=r"block_out_channels is \(4, 6\); every width with attention"):
        ReportNetwork(block_out_channels=(4, 6), num_raa_blocks=1)
    network = ReportNetwork((8, 8), block_out_channels=(4, 4), time_embedding="input", num_raa_blocks=0)
    with pytest.raises(ValueError, match="sample is 8x10; both sides must be multiples of 4"):
        network(torch.zeros(1, 6, 8, 10), 0)
    with pytest.raises(ValueError, match=r"sample is 8x12; it must be \(8, 8\)"):
        network(torch.zeros(1, 6, 8, 12), 0)


def test_images_that_the_levels_do_not_fit_are_refused():
    whole = dataclasses.replace(TINY_REPORT_MODEL, hidden_half="all")
    with pytest.raises(ValueError, match=r"data.height and data.width are 20 and 18; .* multiples of 4, by 2 levels"):
        build_network(whole, 20, 18)
    deep = dataclasses.replace(TINY_REPORT_MODEL, block_out_channels=(4,) * 4)
    with pytest.raises(ValueError, match=r"4 levels in model.block_out_channels leave one position in the bottleneck"):
        build_network(deep, 32, 16)
    build_network(deep, 34, 16)


@pytest.mark.parametrize("hidden_half", ["bottom", "right"])
def test_a_saved_model_loads_from_the_package_and_gives_the_same_bits(tmp_path, hidden_half):
    torch.manual_seed(0)
    model = dataclasses.replace(TINY_REPORT_MODEL, hidden_half=hidden_half, conv_block="triple")
    network = build_network(model, 22, 18, num_train_timesteps=500)
    network.train()(torch.randn(2, 6, *network.config.sample_size), 3)  # moves the statistics of batch normalization
    scheduler = training_scheduler(NoiseConfig(num_train_timesteps=500), "epsilon")
    pipe = HalfFaceInpaintPipeline(network.eval(), scheduler, 22, 18, hidden_half, "stacked")
    pipe.save_pretrained(tmp_path)
    loaded = HalfFaceInpaintPipeline.from_pretrained(tmp_path)
    assert type(loaded.unet) is halfface_pipeline.ReportNetwork
    assert dict(loaded.unet.config)["num_train_timesteps"] == 500
    generic = DiffusionPipeline.from_pretrained(tmp_path, custom_pipeline=str(tmp_path), trust_remote_code=True)
    known = torch.zeros(3, *pipe.half_size)
    images = []
    for each in (pipe, loaded, generic):
        each.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        images.append(each(known, 2, num_inference_steps=3, generator=generator, output_type="pt").images)
    assert torch.equal(images[0], images[1]) and torch.equal(images[0], images[2])
    assert images[0].shape == (2, 3, 22, 18)


def test_a_model_of_whole_images_is_refused_by_the_pipeline_of_halves(tmp_path):
    network = build_network(dataclasses.replace(TINY_REPORT_MODEL, hidden_half="all"), 20, 16, channels=1)
    DDPMPipeline(network, training_scheduler(NoiseConfig(), "epsilon")).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="unet maps 1 channels to 1; it must map 6 to 3"):
        HalfFaceInpaintPipeline.from_pretrained(tmp_path)
