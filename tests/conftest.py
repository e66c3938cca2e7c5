"""Fixtures that many tests share: tiny real networks and pipelines."""

import dataclasses
import gc
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # which share the cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

import pytest
import torch

from halfface_pipeline import FacePriorPipeline, HalfFaceInpaintPipeline
from halfface_pipeline.config.schema import (
    Config,
    DataConfig,
    ModelConfig,
    NoiseConfig,
    OutputConfig,
    SamplingConfig,
    TrainingConfig,
)
from halfface_pipeline.diffusion.networks import build_network
from halfface_pipeline.diffusion.samplers import training_scheduler
from halfface_pipeline.training.loop import train
from tests.fixtures import changed

pytest_plugins = ["tests.browser"]
TINY_MODEL = ModelConfig(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=8)
TINY_REPORT_MODEL = ModelConfig(
    family="report", block_out_channels=(8, 16), attention_levels=(1,), time_embedding="input", num_raa_blocks=1
)
TINY_CONFIG = Config(
    data=DataConfig(height=20, width=16, num_images=24, num_eval_images=4),
    model=TINY_MODEL,
    training=TrainingConfig(steps=6, batch_size=4, log_every=2, checkpoint_every=3, sample_every=None),
    sampling=SamplingConfig(num_inference_steps=2, num_faces=2, num_completions=2),
    output=OutputConfig(tracker="none"),
)


def pytest_collection_modifyitems(items):
    """Files with long tests come first, so that no process is left with one while the others have ended."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Prepared images go to a folder of the test session, not to the user's cache."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(autouse=True, scope="session")
def imported_modules_are_not_searched_for_garbage():
    """The end of each run collects garbage twice, which takes a second through all that torch and diffusers import."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_pipeline():
    """Makes a pipeline around a tiny random UNet."""

    def make(height=20, width=16, hidden_half="bottom", known_layout="mirrored", prediction_type="epsilon"):
        torch.manual_seed(0)
        model = dataclasses.replace(TINY_MODEL, hidden_half=hidden_half, known_layout=known_layout)
        network = build_network(model, height, width).eval()
        scheduler = training_scheduler(NoiseConfig(), prediction_type)
        pipe = HalfFaceInpaintPipeline(network, scheduler, height, width, hidden_half, known_layout)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return make


@pytest.fixture
def model(tiny_pipeline, tmp_path):
    """The folder of a saved tiny model, 20x16, as --model takes it."""
    tiny_pipeline().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def tiny_prior(model=TINY_MODEL, channels=3, prediction_type="v_prediction", hidden_half="all"):
    """A pipeline of whole images around a tiny random network, 20x16."""
    torch.manual_seed(0)
    network = build_network(dataclasses.replace(model, hidden_half=hidden_half), 20, 16, channels).eval()
    pipe = FacePriorPipeline(network, training_scheduler(NoiseConfig(), prediction_type), 20, 16)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """A run of 30 steps with checkpoints at 15 and 30; tests only read it and copy it if they write."""
    config = changed(TINY_CONFIG, "output", dir=str(tmp_path_factory.mktemp("trained") / "run"))
    config = changed(changed(config, "data", num_images=8), "sampling", num_faces=1, num_completions=1)
    return train(changed(config, "training", steps=30, batch_size=2, log_every=1, checkpoint_every=15))


@pytest.fixture
def tiny_config(tmp_path):
    """A run of a few steps on a few procedural faces."""
    return changed(TINY_CONFIG, "output", dir=str(tmp_path / "run"))
