"""The run folder: its log, its pictures, its card, what a run would be."""

import dataclasses
import json

import numpy as np
import PIL.Image
import pytest
from huggingface_hub import ModelCard

from halfface_pipeline.config.files import to_yaml
from halfface_pipeline.config.schema import Config, DataConfig, ModelConfig, TrainingConfig
from halfface_pipeline.data.images import ImageSet
from halfface_pipeline.hub.card import write_card
from halfface_pipeline.inference.sheets import sheet
from halfface_pipeline.run_folder.log import read_log, truncate_log
from halfface_pipeline.training.dry_run import describe
from halfface_pipeline.training.loss_plot import SPIKE, save_loss_plot, spike_ratios
from halfface_pipeline.training.save_model import list_skipped


def test_log_forgets_what_came_after_the_checkpoint_and_a_line_cut_short(tmp_path):
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (10, 20, 30)) + '{"step": 4')
    assert [line["step"] for line in read_log(file)] == [10, 20, 30]
    with file.open("ab") as log:
        log.write(b"\0\xff\n")  # what a file system may leave after the power went
    truncate_log(file, 20)
    assert [line["step"] for line in read_log(file)] == [10, 20]
    truncate_log(tmp_path / "new.jsonl", 0)
    assert (tmp_path / "new.jsonl").read_text() == ""


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


def card_of(run, config):
    """The card of a run of five steps."""
    (run / "config.yaml").write_text(to_yaml(config))
    (run / "log.jsonl").write_text('{"step": 5, "loss": 0.0123}\n')
    write_card(run, "samples/step-0000005.png")
    return (run / "README.md").read_text()


@pytest.mark.parametrize("hidden_half", ["bottom", "left"])
def test_card_is_filled_in_and_valid_for_the_hub(tmp_path, hidden_half):
    config = Config(
        data=DataConfig(source="hub", path="someone/faces", height=108, width=88),
        model=dataclasses.replace(ModelConfig(), hidden_half=hidden_half),
    )
    text = card_of(tmp_path, config)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.to_dict() == {
        "library_name": "diffusers",
        "pipeline_tag": "image-to-image",
        "tags": ["halfface", "inpainting", "faces", "diffusion"],
        "datasets": ["someone/faces"],
    }
    assert "{{" not in text and "None" not in text
    assert ("given the top half" if hidden_half == "bottom" else "given the right half") in text
    assert ("NumPy 54x88x3" if hidden_half == "bottom" else "NumPy 108x44x3") in text
    assert "37.8M parameters" in text and "0.0123" in text


def test_a_card_of_photos_on_disk_does_not_tell_where_they_lie(tmp_path):
    config = Config(data=DataConfig(source="imagefolder", path="/home/someone/private/faces"))
    text = card_of(tmp_path, config)
    assert "imagefolder folder faces" in text
    assert "someone" not in text and str(tmp_path.parent) not in text


def test_a_card_of_a_hub_data_set_saved_on_disk_does_not_name_its_place(tmp_path):
    (tmp_path / "private").mkdir()
    config = Config(data=DataConfig(source="hub", path=str(tmp_path / "private")))
    assert str(tmp_path) not in card_of(tmp_path, config)
    assert ModelCard.load(tmp_path / "README.md").data.to_dict().get("datasets") is None


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


def test_loss_plot_is_drawn(tmp_path):
    save_loss_plot(
        [{"step": 1, "loss": 0.5, "lr": 1e-3}, {"step": 2, "loss": 0.25, "lr": 5e-4}], tmp_path / "loss.png"
    )
    pixels = np.asarray(PIL.Image.open(tmp_path / "loss.png").convert("RGB")).reshape(-1, 3)
    assert (31, 119, 180) in set(map(tuple, pixels.tolist()))


def test_spikes_are_losses_far_above_the_median_before_them_and_are_marked(tmp_path):
    steady = [1.0, 1.2] * 15
    spiky = [*steady[:24], 3.0, *steady[25:]]
    assert {i for i, ratio in spike_ratios(spiky).items() if ratio > SPIKE} == {24}
    assert spike_ratios(spiky)[24] == pytest.approx(3.0 / 1.1)
    assert set(spike_ratios(steady)) == set(range(20, 30)) and not spike_ratios(steady[:20])
    red = []
    for losses in (steady, spiky):
        log = [{"step": step, "loss": loss, "lr": 1e-3} for step, loss in enumerate(losses)]
        save_loss_plot(log, tmp_path / "loss.png")
        pixels = np.asarray(PIL.Image.open(tmp_path / "loss.png").convert("RGB")).reshape(-1, 3)
        red.append(int((pixels == (214, 39, 40)).all(1).sum()))
    assert red[0] == 0 and red[1] > 20
