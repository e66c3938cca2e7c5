"""What changes from step to step, saved and restored."""

import gc
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from halfface_pipeline.diffusion.networks import build_network
from halfface_pipeline.training.ema import EMA
from halfface_pipeline.training.state import TrainingState
from tests.conftest import TINY_MODEL


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_nothing_restored_is_still_the_file_of_the_checkpoint(tmp_path):
    """A file that is mapped into memory keeps its room on the disk, and on NFS its folder, after it was deleted."""

    def state(seed):
        torch.manual_seed(seed)
        network = build_network(TINY_MODEL, 20, 16)
        return TrainingState(Accelerator(cpu=True), network, torch.optim.AdamW(network.parameters()), 0.9)

    written, read = state(0), state(1)
    written.save(tmp_path, 1)
    read.resume(tmp_path)
    gc.collect()
    assert all(map(torch.equal, read.ema.shadow_params, written.ema.shadow_params))
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_the_average_moves_as_the_average_of_diffusers():
    torch.manual_seed(0)
    network = build_network(TINY_MODEL, 20, 16)
    ours, theirs = EMA(network, decay=0.9), EMAModel(network.parameters(), decay=0.9)
    for _ in range(100):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += torch.randn_like(parameter)
        ours.update(network)
        theirs.step(network.parameters())
    assert ours.optimization_step == theirs.optimization_step == 100
    for mine, other, now in zip(ours.shadow_params, theirs.shadow_params, network.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-5)
        assert not torch.allclose(mine, now, atol=0.1)
