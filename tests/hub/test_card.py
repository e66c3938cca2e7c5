"""What a card tells of a run's figures, and that the Hub reads them."""

import ast
import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from halfface_pipeline.config.files import to_yaml
from halfface_pipeline.config.samplers import SAMPLERS
from halfface_pipeline.config.schema import Config, DataConfig, ModelConfig, NoiseConfig
from halfface_pipeline.diffusion.samplers import make_sampler, training_scheduler
from halfface_pipeline.hub.card import is_as_rendered, render_card
from halfface_pipeline.hub.card_metrics import training_cost_words
from tests.conftest import TINY_MODEL
from tests.hub_server import card_faults

DEMO = Path(__file__).parents[2] / "docs" / "results" / "demo.json"


def rendered(run, config=None, **named):
    config = config or Config()
    if config.model == ModelConfig():  # counting the operations of the default network takes seconds
        config = dataclasses.replace(config, model=TINY_MODEL)
    (run / "config.yaml").write_text(to_yaml(config))
    (run / "log.jsonl").write_text('{"loss": 0.5, "step": 1, "images_seen": 640, "images_per_second": 2.0}\n')
    return render_card(run, "samples/step-10.png", named.pop("name", "someone/model"), **named)


def evaluated(run, metrics, pictures=()):
    (run / "evaluation").mkdir(exist_ok=True)
    (run / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
    for name in pictures:
        (run / "evaluation" / name).touch()


def test_figures_of_an_evaluation_are_in_the_table_and_in_the_model_index(tmp_path):
    (tmp_path / "evaluation").mkdir()
    shutil.copyfile(DEMO, tmp_path / "evaluation" / "metrics.json")
    text = rendered(tmp_path, Config(data=DataConfig(source="hub", path="someone/faces")))
    assert card_faults(text) == []
    metrics = json.loads(DEMO.read_text())
    rows = metrics["measures"]["determined_pixel_error"]["rows"]
    cells = ["{value:.4g} ({low:.4g} to {high:.4g})".format(**rows[row]) for row in ("model", "exact", "other_face")]
    assert f"| determined pixel error | {' | '.join(cells)} | mean absolute error" in text
    told = "num faces 64, num completions 4, scheduler DDPMScheduler, num inference steps 50, seeds 0, features pixels"
    assert told in text
    data = yaml.safe_load(ModelCard(text).data.to_yaml())
    results = {result.metric_type: result for result in model_index_to_eval_results(data["model-index"])[1]}
    signed = {name for name, measure in metrics["measures"].items() if measure["group"] == "shift"}
    assert signed and results.keys() == (metrics["measures"].keys() | metrics["real"]["measures"].keys()) - signed
    seam = results["seam_gradient"]
    assert seam.metric_value == pytest.approx(metrics["measures"]["seam_gradient"]["rows"]["model"]["value"], rel=1e-5)
    assert (seam.dataset_type, seam.task_type) == ("someone/faces", "image-to-image")
    settings = {
        "num_faces": 64,
        "num_completions": 4,
        "scheduler": "DDPMScheduler",
        "num_inference_steps": 50,
        "seeds": "0",
        "features": "pixels",
    }
    assert seam.metric_args == settings


def test_shifts_gaps_and_failures_are_listed(tmp_path):
    metrics = json.loads(DEMO.read_text())
    row = {"value": 2.0, "low": 1.0, "high": 3.0}
    chance = {"value": 0.5, "low": -1.0, "high": 2.0}
    for name, model in (("older", row), ("by_chance", chance), ("of_no_face", None)):
        metrics["measures"][name] = {
            "group": "shift",
            "meaning": "completed less true",
            "unit": "L*",
            "rows": {"model": model},
        }
    evaluated(tmp_path, metrics, ["best.png", "worst.png"])
    text = rendered(tmp_path)
    assert "the half of another face. In brackets: 95% intervals, percentile bootstrap over faces." in text
    assert "| older | 2 (1 to 3) | completed less true (L*) |" in text
    assert "by chance" not in text and "of no face" not in text and card_faults(text) == []
    gap = metrics["audit"]["known_hair_lightness"]["gaps"]["seam_gradient"]
    expected = "{ratio:.4g} ({low:.4g} to {high:.4g}) | {q_value:.4g} |".format(**gap)
    assert f"| known_hair_lightness | seam gradient | {gap['worst']} | {gap['best']} | {expected}" in text
    failures = text[text.index("### Failure cases") :]
    assert "![evaluation/worst.png]" in failures and "best.png" not in failures


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"measures": 3, "slices": [1], "data": null}', '{"measures": {"a": {}}}']
)
def test_an_evaluation_that_cannot_be_read_stops_no_card_and_says_that_nothing_was_measured(tmp_path, content):
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "metrics.json").write_text(content)
    text = rendered(tmp_path)
    assert "Not measured." in text and "No slices by age" in text and "model-index" not in text
    assert card_faults(text) == []


def test_the_card_tells_size_cut_samplers_recipe_cost_and_licence(tmp_path):
    config = Config(data=DataConfig(source="celeba", path="x/celeba", height=108, width=88))
    text = rendered(tmp_path, config, model_license="cc-by-nc-4.0")
    assert ModelCard(text).data.license == "cc-by-nc-4.0"
    for words in (
        'pipe = HalfFaceInpaintPipeline.from_pretrained("someone/model")',
        'from_pretrained("someone/model", custom_pipeline="someone/model", trust_remote_code=True)',
        "| image | 108x88 (height x width), colour |",
        "the top half is given, the bottom half is generated",
        "NumPy 54x88x3 (uint8, or float in [0, 1]), torch 3x54x88 in [0, 1]",
        "| heun | HeunDiscreteScheduler | 2N - 1 |",
        "| dpm++ | DPMSolverMultistepScheduler | N |",
        "CelebA: non-commercial research only",
        "AdamW, peak learning rate 0.0003",
        "640 images in 5 minutes, 2.0 per second",
        "nor for surveillance",
        "identifies nobody",
    ):
        assert words in text, words
    left = rendered(tmp_path, dataclasses.replace(config, model=dataclasses.replace(TINY_MODEL, hidden_half="left")))
    assert "the right half is given, the left half is generated" in left and "NumPy 108x44x3" in left
    few = Config(data=DataConfig(num_images=1500))
    assert (
        "faces rendered by halfface_pipeline, up to 1,500, mirrored" in rendered(tmp_path, few) and "up to" not in text
    )
    own = Config(data=DataConfig(source="imagefolder", path="x", license="CC BY 4.0"))
    assert "| licence of the data | CC BY 4.0 |" in rendered(tmp_path, own)
    unknown = rendered(tmp_path, Config(data=DataConfig(source="imagefolder", path="x")))
    assert "| licence of the data | not stated;" in unknown and ModelCard(unknown).data.license is None
    assert "| licence of the data | Apache-2.0: rendered" in rendered(tmp_path, few)
    assert ModelCard(rendered(tmp_path, few)).data.license == "apache-2.0"


def test_the_card_names_a_data_set_of_the_hub_and_no_place_on_a_disk(tmp_path):
    on_hub = ModelCard(rendered(tmp_path, Config(data=DataConfig(source="hub", path="someone/faces"))))
    assert on_hub.data.to_dict() == {
        "library_name": "diffusers",
        "pipeline_tag": "image-to-image",
        "tags": ["halfface", "inpainting", "faces", "diffusion"],
        "datasets": ["someone/faces"],
    }
    private = tmp_path / "private" / "faces"
    private.mkdir(parents=True)
    for source in ("imagefolder", "hub"):
        text = rendered(tmp_path, Config(data=DataConfig(source=source, path=str(private))))
        assert "{{" not in text and "None" not in text and "faces" in text and str(tmp_path) not in text
        assert "datasets" not in ModelCard(text).data.to_dict()


def test_the_calls_in_the_table_of_samplers_are_those_that_are_made(tmp_path):
    text = rendered(tmp_path)
    for name in SAMPLERS:
        scheduler = make_sampler(name, training_scheduler(NoiseConfig(), "epsilon"))
        scheduler.set_timesteps(10)
        calls = {10: "N", 19: "2N - 1"}[len(scheduler.timesteps)]
        assert f"| {name} | {type(scheduler).__name__} | {calls} |" in text


def test_measured_samplers_are_told_where_the_experiment_was_run(tmp_path):
    (tmp_path / "samplers").mkdir()
    rows = [{"scheduler": "dpm++", "steps": 10, "residual_noise": 0.00123456}]
    (tmp_path / "samplers" / "samplers.json").write_text(json.dumps({"rows": rows}))
    assert "| scheduler | steps | residual noise |\n| --- | --- | --- |\n| dpm++ | 10 | 0.001235 |" in rendered(
        tmp_path
    )


@pytest.mark.parametrize("family", ["unet2d", "report"])
def test_a_card_of_whole_images_speaks_of_no_halves(tmp_path, family):
    model = ModelConfig(family=family, hidden_half="all", block_out_channels=(32, 64))
    text = rendered(tmp_path, Config(model=model, data=DataConfig(channels=1)))
    assert card_faults(text) == [] and "half" not in text.lower().replace("halfface", "")
    assert "FacePriorPipeline.from_pretrained(" in text
    assert ('DDPMPipeline.from_pretrained("someone/model", trust_remote_code=True)' in text) == (family == "report")


@pytest.mark.parametrize("family", ["unet2d", "report"])
def test_a_card_of_a_model_for_masks_names_the_mask_and_no_model_of_diffusers(tmp_path, family):
    model = ModelConfig(family=family, hidden_half="any", block_out_channels=(32, 64))
    text = rendered(tmp_path, Config(model=model))
    assert card_faults(text) == [] and "pipeline_tag: image-to-image" in text
    assert "FacePriorPipeline.from_pretrained(" in text and "pipe(image, mask=mask" in text
    assert "DDPMPipeline.from_pretrained(" not in text and "`DDPMPipeline` does not open" in text
    assert "What is hidden is invented" in text and "halfface evaluate --model someone/model" in text
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        ast.parse(block)


def test_an_edit_is_noticed(tmp_path):
    text = rendered(tmp_path)
    assert is_as_rendered(text) and is_as_rendered(text + "\n")
    assert not is_as_rendered(text.replace("invented", "real"))
    assert not is_as_rendered("# A card of somebody's own\n")


def test_the_time_of_a_training_is_added_up_over_its_log():
    log = [{"images_seen": 100, "images_per_second": 10.0}, {"images_seen": 700, "images_per_second": 0.05}]
    assert training_cost_words(log).startswith("700 images in 3.3 hours, 0.1 per second")
    assert training_cost_words([{"step": 1}]) == "not logged"


def test_a_quote_in_a_name_leaves_the_code_valid(tmp_path):
    text = rendered(tmp_path, name='runs/it"s \\ mine')
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        ast.parse(block)
    assert text.count(repr_of := json.dumps('runs/it"s \\ mine')) >= 2, repr_of
