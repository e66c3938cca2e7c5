"""Configuration from YAML and the command line, and back."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import yaml

from .schema import Config

SECTIONS: dict[str, Any] = {section.name: section.type for section in dataclasses.fields(Config)}

FREE_ON_RESUME = (
    "output.",
    "sampling.",
    "data.cache_dir",
    "data.license",
    "data.eyes",
    "data.num_eval_images",
    "training.epochs",
    "training.steps",
    "training.log_every",
    "training.checkpoint_every",
    "training.keep_last",
    "training.keep_every",
    "training.sample_every",
    "training.max_bad_steps",
    "training.max_loss",
)
"""Settings that a resumed run can change: its length, its outputs and their frequency."""

ACCEPTABLE_ON_RESUME = ("optimizer.", "lr_schedule.", "training.seed", "training.mixed_precision", "data.path")
"""Settings that a resumed run can change with `output.accept_changes` too."""


def parse_arguments(arguments: Sequence[str] | None = None) -> tuple[Config, bool]:
    """Parses `--config FILE`, `--section.key value` overrides, `--print_config` and `--dry_run`.

    Args:
        arguments: Command-line arguments; None for those of the process.

    Returns:
        (configuration with `output.dir` resolved, whether to stop before training).

    Raises:
        ValueError: If a key is unknown, a value has the wrong type or is out of range, or the file cannot be read.
    """
    parser = jsonargparse.ArgumentParser(
        usage="%(prog)s [--config FILE] [--dry_run] [--SECTION.KEY VALUE ...]",
        description="Train a model that generates the hidden half of a face.",
        epilog="example: accelerate launch train_halfface.py --config configs/demo.yaml --optimizer.lr 1e-3",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="YAML file with the settings that differ from the defaults")
    parser.add_argument(
        "--dry_run", action="store_true", help="print the resolved configuration and its cost, and stop"
    )
    for name, section in SECTIONS.items():
        parser.add_class_arguments(section, name)
    try:
        parsed = parser.parse_args(arguments)
    except jsonargparse.ArgumentError as error:
        raise ValueError(" ".join(str(error).split())) from error
    for name in SECTIONS:
        if not isinstance(parsed.get(name), jsonargparse.Namespace):
            raise ValueError(f"{name} is {parsed.get(name)!r}; it must be a section of settings, or be left out")
    sections = parser.instantiate(parsed)
    config = Config(**{name: sections[name] for name in SECTIONS})
    if config.output.dir is None:
        file = parsed.config[-1] if parsed.config else None
        name = Path(str(file)).stem if file else "default"
        config = dataclasses.replace(config, output=dataclasses.replace(config.output, dir=f"runs/{name}"))
    return config, parsed.dry_run


def to_dict(config: Config) -> dict[str, dict[str, Any]]:
    """Sections of plain values, as in YAML."""
    return {
        name: {key: list(value) if isinstance(value, tuple) else value for key, value in section.items()}
        for name, section in dataclasses.asdict(config).items()
    }


def to_yaml(config: Config) -> str:
    """The configuration as YAML for `--config`."""
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def from_yaml(path: Path) -> Config:
    """Reads the config.yaml of a run; ValueError if it is not a configuration of this version."""
    try:
        values = yaml.safe_load(path.read_text())
        sections = {}
        for name, section in SECTIONS.items():
            given = {key: tuple(value) if isinstance(value, list) else value for key, value in values[name].items()}
            sections[name] = section(**given)
        return Config(**sections)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a configuration of halfface_pipeline: {error}") from error


def differences(old: Config, new: Config) -> list[str]:
    """Settings of `new` with which a run of `old` cannot resume, each as `section.key: old -> new`."""
    before, after = to_dict(old), to_dict(new)
    changed = [
        (f"{section}.{key}", before[section][key], value)
        for section, values in after.items()
        for key, value in values.items()
        if before[section][key] != value
    ]
    free = FREE_ON_RESUME + (ACCEPTABLE_ON_RESUME if new.output.accept_changes else ())
    return [f"{key}: {was} -> {now}" for key, was, now in changed if not key.startswith(free)]
