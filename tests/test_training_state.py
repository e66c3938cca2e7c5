"""What changes from step to step, saved and restored."""

import gc
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from halfface_pipeline.networks import build_network
from halfface_pipeline.training_state import TrainingState
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
    assert all(map(torch.equal, read.average.shadow_params, written.average.shadow_params))
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
