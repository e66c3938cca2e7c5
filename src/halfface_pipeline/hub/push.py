"""Pushes a run folder to the Hub: which of its files, and the card."""

import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path, PurePath

import yaml
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

from ..config.files import from_yaml, to_dict
from ..remote_code.model_files import CARD_PICTURE, readdress
from ..run_folder.files import atomic_write_text
from ..run_folder.log import CONFIG_FILE, LOG_FILE
from .card import data_license, is_as_rendered, local_id, render_card
from .card_metrics import EVALUATION, METRICS

CARD, INDEX = "README.md", "model_index.json"
EDITED = "has been edited since it was rendered (delete it to render it again)"
PATHS = (("data", "path"), ("data", "cache_dir"), ("output", "dir"))
"""Fields of a configuration that hold paths; only their last part is pushed."""


def is_card_edited(run: Path) -> bool:
    """Whether the run's README.md differs from what was rendered."""
    return (run / CARD).is_file() and not is_as_rendered((run / CARD).read_text())


def states_data_license(run: Path) -> bool:
    """Whether a run's configuration or its kind of data states a licence of the data."""
    return not (run / CONFIG_FILE).is_file() or data_license(from_yaml(run / CONFIG_FILE).data) is not None


def run_files(run: Path, repo_id: str, model_license: str | None = None) -> dict[str, Path | bytes]:
    """The files of a run that are pushed: model, code, configuration, log, figures and card.

    The card is rendered with all figures in the run. An edited card is kept, except that its code loads `repo_id`.

    Args:
        run: The run folder, or any folder with a saved model.
        repo_id: Repository on the Hub.
        model_license: Licence of the weights, as the Hub names it.

    Returns:
        Contents by path in the repository.

    Raises:
        ValueError: If a part of the model, or a picture on its card, is missing.
    """
    if not run.is_dir():
        raise ValueError(f"RUN is {str(run)!r}; it must be a run folder")
    files: dict[str, Path | bytes] = dict(_model_files(run))
    card = _card(run, repo_id, model_license)
    for name in CARD_PICTURE.findall(card):
        if not (run / name).resolve().is_relative_to(run.resolve()) or not (run / name).is_file():
            raise ValueError(f"{CARD} shows a picture that is not in {run.name}: {name}")
        files[name] = run / name
    files[CARD] = readdress(card, repo_id).encode()
    if (run / CONFIG_FILE).is_file():
        files[CONFIG_FILE] = _config_without_folders(run / CONFIG_FILE).encode()
    if (run / METRICS).is_file():
        values = json.loads((run / METRICS).read_text())
        values.pop("command", None)  # its arguments may be paths
        files[METRICS] = (json.dumps(values, indent=1) + "\n").encode()
    beside = (LOG_FILE, f"{EVALUATION}/metrics.md")
    return files | {name: run / name for name in beside if (run / name).is_file()}


def _card(run: Path, repo_id: str, model_license: str | None) -> str:
    """The card to push: an edited one, one that is rendered now, or a short one of a folder that is not a run."""
    if is_card_edited(run):
        if model_license is not None:
            raise ValueError(f"--license is {model_license!r}; write it into {CARD}, which {EDITED}")
        return (run / CARD).read_text()
    if (run / CONFIG_FILE).is_file():
        return _rendered(run, repo_id, model_license)
    settings = json.loads((run / INDEX).read_text())
    if "height" not in settings:
        raise ValueError(f"{run.name} has no {CARD} and no {CONFIG_FILE} to write one from")
    template = importlib.resources.files("halfface_pipeline.remote_code") / f"{settings['_class_name']}.md"
    return template.read_text().format(**settings)


def _model_files(folder: Path) -> dict[str, Path]:
    """Index, components and code of a saved pipeline by path; ValueError if a part is missing."""
    if not (folder / INDEX).is_file():
        raise ValueError(f"{folder.name} is not a saved model: {INDEX} is missing")
    index = json.loads((folder / INDEX).read_text())
    listed = {name: value[0] for name, value in index.items() if isinstance(value, list)}
    components = {name: module for name, module in listed.items() if isinstance(module, str)}
    required = ["unet/*.safetensors", *(f"{name}/*config.json" for name in components)]
    required += [f"{name}/{module}.py" for name, module in components.items() if module != "diffusers"]
    if index.get("_class_name") == "HalfFaceInpaintPipeline":
        required += ["pipeline.py", "halves.py", "image_io.py"]
    if index.get("_class_name") == "FacePriorPipeline":
        required += ["pipeline.py", "posterior.py", "masks.py"]
    missing = [pattern for pattern in required if not any(folder.glob(pattern))]
    if missing:
        raise ValueError(f"{folder.name} is incomplete: {', '.join(missing)} missing; load it and save it again")
    paths = [
        folder / INDEX,
        *folder.glob("*.py"),
        *(file for name in components for file in (folder / name).iterdir()),
    ]
    return {path.relative_to(folder).as_posix(): path for path in sorted(paths) if path.is_file()}


def _config_without_folders(file: Path) -> str:
    """A config.yaml whose paths are cut to their last part, so that no path of this machine is pushed."""
    config = to_dict(from_yaml(file))
    for section, field in PATHS:
        value = config[section][field]
        if value is not None and (PurePath(value).is_absolute() or value.startswith("~")):
            config[section][field] = PurePath(value).name
    return yaml.safe_dump(config, sort_keys=False)


def push_files(
    files: Mapping[str, Path | bytes], repo_id: str, message: str, private: bool = False, revision: str | None = None
) -> str:
    """Pushes files to a model repository, created if it does not exist, in one commit.

    Args:
        files: Contents by path in the repository.
        repo_id: `user/name`.
        message: Commit message.
        private: Whether the repository must be private.
        revision: Branch to commit to, created if it does not exist.

    Returns:
        The URL of the commit.

    Raises:
        ValueError: If the Hub refuses or cannot be reached; one line with the reason.
    """
    api = HfApi()
    try:
        repo_id = api.create_repo(repo_id, private=private or None, exist_ok=True).repo_id
        if private and not api.model_info(repo_id).private:
            raise ValueError(f"--private is given, and {repo_id} exists and is public; make it private first")
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        return api.create_commit(repo_id, operations, commit_message=message, revision=revision).commit_url
    except OfflineModeIsEnabled:
        raise ValueError("HF_HUB_OFFLINE is set; unset it to push") from None
    except (HTTPError, OSError) as error:
        raise ValueError(_reason(error, repo_id)) from error


def full_repo_id(repo_id: str) -> str:
    """`user/name` of a repository that may be named without its user; ValueError if the Hub does not know the user."""
    if "/" in repo_id:
        return repo_id
    try:
        return f"{HfApi().whoami()['name']}/{repo_id}"
    except (HTTPError, OSError) as error:
        raise ValueError(f"REPO_ID is {repo_id!r}, without a user. {_reason(error, repo_id)}") from error


def _reason(error: Exception, repo_id: str) -> str:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status == 401:
        return "The Hub does not accept the token (401); log in with `hf auth login`, or set HF_TOKEN."
    if status == 403:
        return f"The token may not write to {repo_id} (403); it needs write access there."
    return f"The push to {repo_id} failed: {' '.join(str(error).split())}"


def refresh_card(run: Path, out: Path) -> bool:
    """Renders the card of a run again if `out`, where something was measured, is in the run; whether it did.

    An edited card is kept.
    """
    inside = run.resolve() in out.resolve().parents and (run / CONFIG_FILE).is_file() and (run / CARD).is_file()
    if not inside or is_card_edited(run) or not any((run / "samples").glob("step-*.png")):
        return False
    atomic_write_text(run / CARD, _rendered(run, local_id(run), None))
    return True


def keep_license(run: Path, model_license: str) -> None:
    """Writes the licence of the weights into the run's card, where later renderings find it."""
    if (run / CONFIG_FILE).is_file():
        atomic_write_text(run / CARD, _rendered(run, run.resolve().name, model_license))


def _rendered(run: Path, repo_id: str, model_license: str | None) -> str:
    sheets = sorted((run / "samples").glob("step-*.png"))
    if not sheets:
        raise ValueError(f"{run.name} has no sheet of samples in samples/; finish or resume its training first")
    return render_card(run, sheets[-1].relative_to(run).as_posix(), repo_id, model_license)
