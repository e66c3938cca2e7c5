"""A run folder on its way to the Hub: which of its files go, and the card they go with."""

import json
from pathlib import Path

import yaml

from ..config.files import from_yaml, to_dict
from ..diffusion.networks import training_cost
from ..remote_code.shipping import CARD, INDEX, card_files, content_of, model_files, plain_card, without_folders
from ..run_folder.log import CONFIG_FILE, LOG_FILE, read_log
from .card import is_as_rendered, render_card
from .card_metrics import EVALUATION

BESIDE = (LOG_FILE, f"{EVALUATION}/metrics.json", f"{EVALUATION}/metrics.md")
"""What goes up beside the model and its configuration, where it is there. Checkpoints, trackers, lists stay."""


EDITED = "has been edited since it was rendered (delete it to have it rendered anew)"


def is_card_edited(run: Path) -> bool:
    """Whether somebody, or an earlier version, wrote what the run's README.md says."""
    return (run / CARD).is_file() and not is_as_rendered((run / CARD).read_text())


def run_files(run: Path, repo_id: str, model_license: str | None = None) -> dict[str, Path | bytes]:
    """What of a run folder goes to the Hub.

    The card is rendered anew, with the figures measured meanwhile, unless somebody has edited it: then it goes as it
    is, with `repo_id` where its code names the model.

    Args:
        run: The run folder, or any folder with a saved model.
        repo_id: Where it goes.
        model_license: Licence of the weights, as the Hub names it.

    Returns:
        Contents by path in the repository.

    Raises:
        ValueError: If the folder lacks a part of the model, or a picture that its card shows.
    """
    if not run.is_dir():
        raise ValueError(f"RUN is {str(run)!r}; it must be a run folder")
    files = model_files(run)
    card, edited = (run / CARD).read_text() if (run / CARD).is_file() else None, is_card_edited(run)
    if edited and model_license is not None:
        raise ValueError(f"--license is {model_license!r}; it must be written into {CARD}, which {EDITED}")
    if not edited and (run / CONFIG_FILE).is_file():
        card = _rendered(run, repo_id, model_license)
    if card is None:
        settings = json.loads((run / INDEX).read_text())
        if "hidden_half" not in settings:
            raise ValueError(f"{run.name} has no {CARD} and no {CONFIG_FILE} to write one from")
        card = plain_card(repo_id, settings)
    files |= card_files(run, repo_id, card)
    if (run / CONFIG_FILE).is_file():
        values = without_folders(to_dict(from_yaml(run / CONFIG_FILE)))
        files[CONFIG_FILE] = yaml.safe_dump(values, sort_keys=False).encode()
    return files | {name: content_of(run / name) for name in BESIDE if (run / name).is_file()}


def refresh_card(run: Path, out: Path) -> bool:
    """Renders a run's card anew after something was measured in its folder.

    Args:
        run: The run folder.
        out: Where the figures were written; only what lies in the run belongs to its card.

    Returns:
        Whether the card was changed; one that was edited is not.
    """
    inside = run.resolve() in out.resolve().parents and (run / CONFIG_FILE).is_file() and (run / CARD).is_file()
    if not inside or is_card_edited(run) or not any((run / "samples").glob("step-*.png")):
        return False
    (run / CARD).write_text(_rendered(run, run.as_posix() if not run.is_absolute() else run.name, None))
    return True


def keep_license(run: Path, model_license: str) -> None:
    """Writes the licence of the weights into the run's card, so that every later one tells it."""
    if (run / CONFIG_FILE).is_file():
        (run / CARD).write_text(_rendered(run, run.resolve().name, model_license))


def _rendered(run: Path, repo_id: str, model_license: str | None) -> str:
    sheets = sorted((run / "samples").glob("step-*.png"))
    if not sheets:
        raise ValueError(f"{run.name} has no sheet of samples in samples/; let its training end, or go on, first")
    config = from_yaml(run / CONFIG_FILE)
    step = int(sheets[-1].stem.removeprefix("step-"))
    log = [line for line in read_log(run / LOG_FILE) if line["step"] <= step]
    parameters = training_cost(config.model, config.data.height, config.data.width, config.data.channels)[0]
    samples = sheets[-1].relative_to(run).as_posix()
    return render_card(run, config, step, parameters, log, samples, repo_id, model_license)
