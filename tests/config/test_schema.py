"""Configuration: ranges, YAML, the command line."""

import dataclasses
import warnings
from pathlib import Path

import pytest
from accelerate.utils import LoggerType
from diffusers import DDPMScheduler

from halfface_pipeline.config.files import differences, from_yaml, parse_arguments, to_yaml
from halfface_pipeline.config.schema import (
    TRACKERS,
    Config,
    DataConfig,
    ModelConfig,
    NoiseConfig,
    ObjectiveConfig,
    OutputConfig,
    SamplingConfig,
    TrainingConfig,
)

CONFIGS = sorted(Path(__file__).parents[2].joinpath("configs").glob("*.yaml"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--training.batch_size 0", r"training.batch_size is 0; it must be in \[1, inf\)"),
        ("--training.stepz 5", "--training.stepz"),
        ("--training.steps many", "training.steps"),
        ("--data.source svhn", "data.source"),
        ("--data.source mnist", "data.path is None; it must be set for mnist"),
        ("--data.channels 2", "data.channels"),
        ("--data.channels 1", "data.channels is 1; it must be 3, or model.hidden_half all or any"),
        ("--model.hidden_half all --sampling.scheduler dpm++", "sampling.scheduler is .*; it must be ddpm with model"),
        (
            "--model.hidden_half all --model.known_layout stacked",
            "model.known_layout is 'stacked'; it must be left at",
        ),
        (
            "--model.hidden_half any --model.known_layout stacked",
            "model.known_layout is 'stacked'; it must be left at 'mirrored': with model.hidden_half any",
        ),
        (
            "--model.hidden_half any --distillation.teacher drawn --sampling.scheduler lcm "
            "--sampling.num_inference_steps 4",
            "model.hidden_half is 'any'; it must be a half with distillation.teacher",
        ),
        (
            "--model.conv_block triple",
            "model.conv_block is 'triple'; it must be left at 'resnet': model.family unet2d",
        ),
        ("--model.time_embedding input", "model.time_embedding is 'input'; it must be left"),
        ("--model.num_raa_blocks 0", "model.num_raa_blocks is 0; it must be left"),
        ("--model.family report --model.num_raa_blocks -1", r"model.num_raa_blocks is -1; it must be in \[0, inf\)"),
        ("--model.family report --model.norm_num_groups 8", "model.norm_num_groups is 8; it must be left at 32"),
        (
            "--model.family report --model.attention_head_dim 32",
            "model.attention_head_dim is 32; it must be left at 64",
        ),
        ("--model.family report --model.layers_per_block 1", "model.layers_per_block is 1; it must be left at 2"),
        ("--model.family report --model.mid_attention false", "model.mid_attention is False; it must be left at True"),
        ("--model.family report --model.dropout 0.1", "model.dropout is 0.1; it must be left at 0.0"),
        ("--model.family report --model.attention_levels [4]", "model.attention_levels"),
        ("--data.source celeba", "data.path is None; it must be set for celeba"),
        ("--data.height 47", "data.height is 47; it must be even"),
        ("--data.width 41 --model.hidden_half left", "data.width is 41; it must be even"),
        ("--data.holdout 1.5", "data.holdout is 1.5"),
        ("--model.block_out_channels [30,64]", "model.norm_num_groups is 32"),
        ("--model.block_out_channels [64]", "two or more"),
        ("--model.attention_levels [4]", "model.attention_levels"),
        ("--model.attention_head_dim 7", "model.attention_head_dim is 7"),
        ("--model.dropout 1", "model.dropout"),
        ("--noise.beta_end 1.5", "noise.beta_end is 1.5"),
        ("--optimizer.lr 0", "optimizer.lr is 0"),
        ("--optimizer.lr fast", "optimizer.lr"),
        ("--optimizer.lr .inf", "optimizer.lr is inf"),
        ("--lr_schedule.min_lr 1", r"lr_schedule.min_lr is 1.0; it must be at most optimizer.lr \(0.0003\)"),
        ("--training.seed 9223372036854775808", "training.seed is 9223372036854775808"),
        ("--lr_schedule.period_multiplier 0", "lr_schedule.period_multiplier"),
        ("--objective.min_snr_gamma 0", "objective.min_snr_gamma"),
        ("--training.gradient_accumulation_steps 3", "training.batch_size is 64; it must be a multiple of 3"),
        ("--training.ema_decay 1", "training.ema_decay"),
        ("--sampling.num_inference_steps 1001", r"at most noise.num_train_timesteps \(1000\)"),
        ("--sampling.scheduler edm", "sampling.scheduler"),
        ("--noise.rescale_betas_zero_snr true --objective.prediction_type epsilon", "pure noise says nothing"),
        ("--config missing.yaml", "missing.yaml"),
        ("--training.step 3", "unrecognized arguments: --training.step 3"),
    ],
)
def test_bad_settings_are_refused_in_one_line_that_names_them(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_arguments(arguments.split())
    assert "\n" not in str(caught.value)


def test_overrides_come_after_the_file_and_floats_may_be_written_1e_4(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("optimizer: {lr: 1e-4}\nmodel: {block_out_channels: [32, 64]}\ntraining: {steps: 5}\n")
    config, dry_run = parse_arguments(["--config", str(file), "--training.steps", "7", "--dry_run"])
    assert config.optimizer.lr == 1e-4
    assert config.model.block_out_channels == (32, 64)
    assert config.training.steps == 7
    assert config.output.dir == "runs/mine"
    assert dry_run


@pytest.mark.parametrize(
    ("text", "message"), [("data: null", "data is None; it must be"), ("model: 3", "model is 3;")]
)
def test_a_section_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        parse_arguments(["--config", str(tmp_path / "config.yaml")])


def test_a_misspelt_key_in_a_file_is_refused(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("optimizer: {learning_rate: 1e-4}\n")
    with pytest.raises(ValueError, match="learning_rate"):
        parse_arguments(["--config", str(file)])


def test_yaml_comes_back_as_it_was(tmp_path):
    config = Config(data=DataConfig(attribute_columns=("Smiling",)), model=ModelConfig(attention_levels=(3,)))
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert from_yaml(tmp_path / "config.yaml") == config
    (tmp_path / "config.yaml").write_text("data: {hight: 3}")
    with pytest.raises(ValueError, match=r"config.yaml is not a configuration"):
        from_yaml(tmp_path / "config.yaml")


def test_differences_name_what_changes_the_mathematics_and_nothing_else():
    old = Config()
    assert differences(old, old) == []
    longer = dataclasses.replace(old, training=dataclasses.replace(old.training, epochs=200, keep_last=9))
    other_sheets = dataclasses.replace(longer, sampling=SamplingConfig(num_faces=9))
    assert differences(old, other_sheets) == []
    other = dataclasses.replace(
        old, objective=ObjectiveConfig(prediction_type="sample"), noise=NoiseConfig(beta_end=0.1)
    )
    assert differences(old, other) == [
        "noise.beta_end: 0.02 -> 0.1",
        "objective.prediction_type: v_prediction -> sample",
    ]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_shipped_config_is_valid_and_states_only_what_differs(file):
    import yaml

    config, _ = parse_arguments(["--config", str(file)])
    assert config.output.dir == f"runs/{file.stem}"
    defaults = yaml.safe_load(to_yaml(Config()))
    for section, values in yaml.safe_load(file.read_text()).items():
        for key, value in values.items():
            assert defaults[section][key] != value, f"{section}.{key} is the default"


def test_help_begins_with_how_to_call_and_ends_in_an_example(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    usage, *_, example = capsys.readouterr().out.strip().split("\n\n")
    assert usage.endswith("[--config FILE] [--dry_run] [--SECTION.KEY VALUE ...]")
    assert example.startswith("example: accelerate launch train_halfface.py --config")


def test_trackers_are_those_of_accelerate():
    assert set(TRACKERS) == set(LoggerType.list()) - {"all"}
    assert OutputConfig(tracker="wandb").tracker == "wandb"
    with pytest.raises(ValueError, match=r"^output.tracker is 'wand'; it must be none or a tracker of accelerate"):
        OutputConfig(tracker="wand")


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_have_one_range(seed):
    for section in (DataConfig, TrainingConfig, SamplingConfig):
        assert section(seed=2**63 - 1).seed == 2**63 - 1
        with pytest.raises(ValueError, match=rf"seed is {seed}; it must be from 0 to 2\*\*63 - 1"):
            section(seed=seed)


def test_a_tilde_in_the_output_folder_is_home(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert parse_arguments(["--output.dir=~/x"])[0].output.dir == "/somewhere/x"


def test_a_schedule_that_ends_early_is_reported_with_its_signal():
    for settings in ({}, {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 50}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            NoiseConfig(**settings)
    for schedule in ("linear", "scaled_linear"):
        noise = {"num_train_timesteps": 250, "beta_schedule": schedule}
        signal = DDPMScheduler(**noise).alphas_cumprod[-1] ** 0.5
        with pytest.warns(UserWarning, match=rf"num_train_timesteps is 250 .* sqrt\(abar_T\) is {signal:.2f}"):
            NoiseConfig(**noise)
