"""The run folder: its pictures, its lists, what a run would be."""

import numpy as np
import PIL.Image
import pytest

from halfface_pipeline.config.schema import Config, DataConfig, TrainingConfig
from halfface_pipeline.data.images import ImageSet
from halfface_pipeline.inference.sheets import sheet
from halfface_pipeline.training.dry_run import describe
from halfface_pipeline.training.loss_plot import SPIKE, save_loss_plot, spike_ratios
from halfface_pipeline.training.save_model import list_skipped


def test_skipped_pictures_are_listed_with_their_reasons(tmp_path):
    def part(skipped):
        return ImageSet(np.zeros((1, 4, 4, 3), np.uint8), ("a.jpg",), {}, "f", skipped)

    list_skipped(tmp_path, part(()), part(()))
    assert not (tmp_path / "skipped_images.txt").exists()
    list_skipped(tmp_path, part((("b.jpg", "truncated"),)), part((("c.jpg", "empty"),)))
    assert (tmp_path / "skipped_images.txt").read_text() == "b.jpg: truncated\nc.jpg: empty\n"


def test_description_holds_the_parameters_steps_and_memory_of_the_configuration():
    text = describe(Config(data=DataConfig(num_images=1000), training=TrainingConfig(epochs=2, batch_size=50)))
    assert "block_out_channels:" in text
    assert "parameters: 37,808,451 (37.8M)" in text
    assert "training: 1000 images, 40 steps of 50" in text
    larger = describe(Config(data=DataConfig(num_images=1000), training=TrainingConfig(batch_size=500)))
    memory = [float(part.split("memory: about ")[1].split()[0]) for part in (text, larger)]
    assert memory[1] > memory[0] > 37.8e6 * 20 / 2**30


def test_description_says_why_the_length_is_not_known():
    text = describe(Config(data=DataConfig(source="celeba", path="nowhere", height=108, width=88)))
    assert "training: unknown: data.path is 'nowhere'" in text


def test_sheet_has_a_row_for_each_original_with_its_completions_after_it():
    originals = [PIL.Image.new("RGB", (80, 100), colour) for colour in ("red", "lime")]
    completions = [PIL.Image.new("RGB", (80, 100), (0, 0, 100 + i)) for i in range(6)]
    picture = sheet(originals, completions)
    assert picture.size == (4 * 84 + 4, 2 * 104 + 16)
    centres = [[picture.getpixel((44 + 84 * column, 66 + 104 * row)) for column in range(4)] for row in range(2)]
    assert centres == [
        [(255, 0, 0), (0, 0, 100), (0, 0, 101), (0, 0, 102)],
        [(0, 255, 0), (0, 0, 103), (0, 0, 104), (0, 0, 105)],
    ]
    small = sheet([PIL.Image.new("RGB", (10, 12))], [PIL.Image.new("RGB", (10, 12))])
    assert small.size == (2 * 84 + 4, 100 + 16)


def test_spikes_are_losses_far_above_the_median_before_them_and_are_marked(tmp_path):
    steady = [1.0, 1.2] * 15
    spiky = [*steady[:24], 3.0, *steady[25:]]
    assert {i for i, ratio in spike_ratios(spiky).items() if ratio > SPIKE} == {24}
    assert spike_ratios(spiky)[24] == pytest.approx(3.0 / 1.1)
    assert set(spike_ratios(steady)) == set(range(20, 30)) and not spike_ratios(steady[:20])
    red, blue = [], []
    for losses in (steady, spiky):
        log = [{"step": step, "loss": loss, "lr": 1e-3} for step, loss in enumerate(losses)]
        save_loss_plot(log, tmp_path / "loss.png")
        pixels = np.asarray(PIL.Image.open(tmp_path / "loss.png").convert("RGB")).reshape(-1, 3)
        red.append(int((pixels == (214, 39, 40)).all(1).sum()))
        blue.append(int((pixels == (31, 119, 180)).all(1).sum()))
    assert red[0] == 0 and red[1] > 20 and min(blue) > 20
