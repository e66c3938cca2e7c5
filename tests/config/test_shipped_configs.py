"""The shipped configurations of the report's trainings take two steps and say what the report says."""

import functools
import itertools
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from diffusers import DDPMPipeline

from halfface_pipeline import HalfFaceInpaintPipeline
from halfface_pipeline.config.files import parse_arguments
from halfface_pipeline.run_folder.log import read_log
from halfface_pipeline.training.loop import train
from halfface_pipeline.training.lr_schedule import learning_rate
from tests.data.test_digits import write_mnist
from tests.fixtures import write_celeba

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = (
    "--training.steps 2 --training.batch_size 2 --training.log_every 1 --sampling.num_faces 1 "
    "--sampling.num_completions 1 --sampling.num_inference_steps 1 --output.tracker none"
)
PEAK = {"digits": 3e-4, "report_4m": 2e-4, "report_24m": 9e-4, "report_24m_fault": 9e-4, "report_31m": 9e-4}
PERIODS = {"report_24m": (0, 2, 6, 14, 30), "report_24m_fault": (0, 1, 2, 3, 4), "report_31m": (0, 2, 6, 14, 30)}


@functools.cache
def of_file(name, words=""):
    return parse_arguments(["--config", str(CONFIGS / f"{name}.yaml"), *words.split()])[0]


@pytest.fixture(scope="module")
def celeba(tmp_path_factory):
    folder = tmp_path_factory.mktemp("celeba")
    write_celeba(folder, 3)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "report_4m", "report_24m", "report_31m", "report_37m"])
def test_a_configuration_of_the_report_trains(name, celeba, tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    if name == "digits":
        write_mnist(tmp_path / "data", 3)
        config = of_file(name, f"{SMALL} --data.path {tmp_path / 'data'} --output.dir {tmp_path / 'run'}")
    else:
        # A quarter of the larger widths, whose checkpoints take seconds to write; their own are counted elsewhere.
        size = "--data.height 40 --data.width 32"
        if name != "report_4m":
            size += " --model.block_out_channels [16,32,64,128]"
        config = of_file(name, f"{SMALL} {size} --data.path {celeba} --output.dir {tmp_path / 'run'}")
    folder = train(config)
    first, second = (line["loss"] for line in read_log(folder / "log.jsonl"))
    assert 0 < first < 10 and 0 < second < 10 and first != second
    pipe = (DDPMPipeline if name == "digits" else HalfFaceInpaintPipeline).from_pretrained(folder)
    assert pipe.unet.config.block_out_channels == list(config.model.block_out_channels)
    assert pipe.scheduler.config.variance_type == "fixed_large"


@pytest.mark.parametrize("name", PEAK)
def test_a_configuration_has_the_learning_rate_that_the_report_tells(name):
    """At the start of a period the rate is the peak; in the middle of one it is half of it."""
    config = of_file(name)
    periods, steps = PERIODS.get(name, range(5)), 1000

    def rate(epoch):
        return learning_rate(config.lr_schedule, config.optimizer.lr, int(epoch * steps), 62 * steps, steps)

    assert [rate(epoch) for epoch in periods] == pytest.approx([PEAK[name]] * 5)
    share = 1.0 if config.lr_schedule.kind == "constant" else 0.5
    middles = [(a + b) / 2 for a, b in itertools.pairwise(periods)]
    assert [rate(epoch) for epoch in middles] == pytest.approx([share * PEAK[name]] * 4)


def test_the_trainings_are_those_of_the_report():
    batches = {name: of_file(name).training.batch_size for name in (*PEAK, "report_37m")}
    assert batches == dict.fromkeys(batches, 128) | {"report_31m": 16}
    assert (of_file("report_4m").training.epochs, of_file("report_37m").training.epochs) == (40, 252)
    assert of_file("report_37m").optimizer.lr == 3e-4
    assert of_file("report_4m").model.hidden_half == "right"
    for name in ("report_4m", "report_24m", "report_24m_fault", "report_31m", "report_37m"):
        config = of_file(name)
        assert (config.data.source, config.data.height, config.data.width) == ("celeba", 108, 88)
        assert (config.model.known_layout, config.objective.prediction_type) == ("stacked", "epsilon")
        assert config.training.ema_decay is config.optimizer.max_grad_norm is None
