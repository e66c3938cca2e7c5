"""Which images a model is evaluated on."""

import dataclasses
from pathlib import Path

from ..config.files import from_yaml
from ..config.schema import DataConfig
from ..remote_code.pipeline import HalfFaceInpaintPipeline
from ..run_folder.log import CONFIG_FILE


def evaluation_data(name: str | None, model: str, pipe: HalfFaceInpaintPipeline) -> DataConfig:
    """The images a model is measured on.

    Args:
        name: `procedural`, a folder of photos, or none for the data the model was trained on.
        model: Run folder, checkpoint or Hub id.
        pipe: The model; images take its size.

    Returns:
        Where the images come from.

    Raises:
        ValueError: If there is no such folder, or none is named and the model does not say what it was trained on.
    """
    trained_on = training_data(model)
    size = {"height": pipe.config.height, "width": pipe.config.width}
    if name == "procedural":
        return DataConfig(seed=trained_on.seed if trained_on else 0, **size)
    if name is not None and not Path(name).is_dir():
        raise ValueError(f"--data is {name!r}; it must be `procedural` or a folder of photos")
    if name is not None and (trained_on is None or name != trained_on.path):
        return DataConfig(source="imagefolder", path=name, holdout=1.0, on_bad_image="skip", **size)
    if trained_on is None:
        raise ValueError(f"--data is not given and {model} holds no {CONFIG_FILE}; say what to evaluate on")
    return dataclasses.replace(trained_on, **size)


def training_data(model: str) -> DataConfig | None:
    """What a run or checkpoint here was trained on; none for a model of the Hub, which does not say."""
    folders = (Path(model), Path(model).parent.parent)
    config = next((folder / CONFIG_FILE for folder in folders if (folder / CONFIG_FILE).is_file()), None)
    return from_yaml(config).data if config is not None and Path(model).is_dir() else None
