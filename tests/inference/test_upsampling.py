"""Folded upsampling: the same numbers as diffusers' own, from fewer products."""

import copy

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.upsampling import Upsample2D
from torch.utils.flop_counter import FlopCounterMode

from halfface_pipeline.inference.speed import FoldedUpsample, fold, fold_upsampling


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 4)])
def test_folded_upsampling_gives_the_same_values(size):
    torch.manual_seed(0)
    plain = Upsample2D(4, use_conv=True, out_channels=6).double()
    values = torch.randn(2, 4, *size, dtype=torch.float64)
    folded = FoldedUpsample(plain.conv)
    assert torch.allclose(folded(values), plain(values), rtol=0, atol=1e-14)
    with FlopCounterMode(display=False) as few:
        folded(values)
    with FlopCounterMode(display=False) as many:
        plain(values)
    assert few.get_total_flops() * 9 == many.get_total_flops() * 4


def test_a_kernel_of_ones_folds_into_the_number_of_places_each_value_fills():
    counts = torch.tensor([1.0, 2.0, 2.0, 1.0])
    assert torch.equal(fold(torch.ones(1, 1, 3, 3))[0, 0], torch.outer(counts, counts))


def test_a_network_keeps_its_state_and_its_answers(tiny_pipeline):
    network = tiny_pipeline().unet
    folded = copy.deepcopy(network)
    fold_upsampling(folded)
    assert sum(isinstance(module, FoldedUpsample) for module in folded.modules()) == 1
    assert {name: value.tolist() for name, value in folded.state_dict().items()} == {
        name: value.tolist() for name, value in network.state_dict().items()
    }
    given = torch.randn(2, 6, 8, 16)
    assert torch.allclose(folded(given, 7).sample, network(given, 7).sample, atol=1e-5)
    UNet2DModel.from_config(folded.config).load_state_dict(folded.state_dict())


@pytest.mark.parametrize("settings", [{"use_conv": False}, {"use_conv": True, "kernel_size": 5, "padding": 2}])
def test_other_upsampling_stays(settings):
    network = torch.nn.Sequential(Upsample2D(4, **settings))
    fold_upsampling(network)
    assert type(network[0]) is Upsample2D


def test_a_size_of_its_own_is_refused():
    with pytest.raises(ValueError, match="output_size is 7; it must be None"):
        FoldedUpsample(torch.nn.Conv2d(2, 2, 3, padding=1))(torch.zeros(1, 2, 3, 3), 7)
