"""`model.init_from`: which weights are copied, and what is refused."""

import dataclasses
import shutil

import pytest
import torch

from halfface_pipeline.config.schema import ModelConfig
from halfface_pipeline.diffusion.networks import build_network
from halfface_pipeline.inference.load import load_pipeline
from halfface_pipeline.run_folder.checkpoints import load_newest_checkpoint
from halfface_pipeline.training.init_weights import init_weights
from halfface_pipeline.training.loop import train
from tests.conftest import tiny_prior


def starting_from(config, source, run=None, **training):
    output = dataclasses.replace(config.output, dir=str(run or config.output.dir))
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, init_from=str(source)),
        training=dataclasses.replace(config.training, **training),
        output=output,
    )


def test_every_weight_of_the_averaged_model_is_copied(trained_run, tiny_config):
    network = build_network(tiny_config.model, 20, 16)
    line = init_weights(network, str(trained_run), "v_prediction")
    expected = load_pipeline(str(trained_run)).unet.state_dict()
    own = network.state_dict()
    assert own.keys() == expected.keys() and all(torch.equal(own[name], expected[name]) for name in own)
    assert line == f"{len(own)} tensors from {trained_run}"
    assert "predicts v_prediction, this training epsilon" in init_weights(network, str(trained_run), "epsilon")


def test_another_size_is_fine_and_other_widths_are_named(trained_run, tiny_config):
    init_weights(build_network(tiny_config.model, 28, 24), str(trained_run), "v_prediction")
    wider = dataclasses.replace(tiny_config.model, block_out_channels=(8, 24))
    with pytest.raises(ValueError, match=r"model\.init_from is .* its .* is \(.*\), that of this configuration \("):
        init_weights(build_network(wider, 20, 16), str(trained_run), "v_prediction")
    deeper = dataclasses.replace(tiny_config.model, layers_per_block=2)
    with pytest.raises(ValueError, match="absent"):
        init_weights(build_network(deeper, 20, 16), str(trained_run), "v_prediction")
    with pytest.raises(ValueError, match=r"model\.init_from is '.*nowhere'"):
        init_weights(build_network(tiny_config.model, 20, 16), str(trained_run / "nowhere"), "v_prediction")


def test_a_model_of_whole_images_gives_the_channels_of_the_noisy_half(tiny_config, tmp_path):
    from diffusers import DDPMPipeline, DDPMScheduler

    settings = {**vars(tiny_config.model), "hidden_half": "all"}
    whole = build_network(ModelConfig(**settings), 20, 16)
    DDPMPipeline(whole, DDPMScheduler(prediction_type="v_prediction")).save_pretrained(tmp_path / "whole")
    network = build_network(tiny_config.model, 20, 16)
    rest = network.conv_in.weight[:, 3:].clone()
    line = init_weights(network, str(tmp_path / "whole"), "v_prediction")
    assert line.endswith("of conv_in.weight the first 3 of 6 input channels")
    assert torch.equal(network.conv_in.weight[:, :3], whole.conv_in.weight)
    assert torch.equal(network.conv_in.weight[:, 3:], rest)
    assert torch.equal(network.conv_out.weight, whole.conv_out.weight)


def test_a_model_for_masks_gives_and_takes_the_channels_of_the_noisy_image(trained_run, tiny_config, tmp_path):
    masked = tiny_prior(hidden_half="any")
    masked.save_pretrained(tmp_path / "masked")
    for hidden_half, channels in (("bottom", 6), ("all", 3)):
        settings = {**vars(tiny_config.model), "hidden_half": hidden_half}
        network = build_network(ModelConfig(**settings), 20, 16)
        rest = network.conv_in.weight[:, 3:].clone()
        line = init_weights(network, str(tmp_path / "masked"), "v_prediction")
        assert line.endswith(f"of conv_in.weight the first 3 of {channels} input channels")
        assert torch.equal(network.conv_in.weight[:, :3], masked.unet.conv_in.weight[:, :3])
        assert torch.equal(network.conv_in.weight[:, 3:], rest)
    mask_channel, known = masked.unet.conv_in.weight[:, 3:].clone(), load_pipeline(str(trained_run)).unet
    init_weights(masked.unet, str(trained_run), "v_prediction")
    assert torch.equal(masked.unet.conv_in.weight[:, 3:], mask_channel)
    assert torch.equal(masked.unet.conv_in.weight[:, :3], known.conv_in.weight[:, :3])


@pytest.mark.slow  # several trainings
def test_a_training_starts_there_and_resumes_without_it(trained_run, tiny_config, tmp_path, capsys):
    source = tmp_path / "source"
    shutil.copytree(trained_run, source, ignore=shutil.ignore_patterns("checkpoints"))
    whole = starting_from(tiny_config, source, tmp_path / "whole", steps=6)
    halted = starting_from(tiny_config, source, tmp_path / "halted", steps=3)
    tiny_lr = dataclasses.replace(tiny_config.optimizer, lr=1e-12, weight_decay=0.0)
    still = dataclasses.replace(starting_from(tiny_config, source, tmp_path / "still", steps=1), optimizer=tiny_lr)
    train(still)
    assert "starting from" in capsys.readouterr().out
    began = load_newest_checkpoint(tmp_path / "still" / "checkpoints").network
    expected = load_pipeline(str(source)).unet.state_dict()
    assert all(torch.allclose(began[name], expected[name], atol=1e-6) for name in began)

    constant = dataclasses.replace(tiny_config.lr_schedule, kind="constant")
    train(dataclasses.replace(whole, lr_schedule=constant))
    train(dataclasses.replace(halted, lr_schedule=constant))
    shutil.rmtree(source)
    capsys.readouterr()
    resumed = starting_from(tiny_config, source, tmp_path / "halted", steps=6)
    train(dataclasses.replace(resumed, lr_schedule=constant))
    assert "starting from" not in capsys.readouterr().out
    one, other = (load_newest_checkpoint(tmp_path / name / "checkpoints").network for name in ("whole", "halted"))
    assert all(torch.equal(one[name], other[name]) for name in one)
