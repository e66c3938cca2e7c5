"""How a model gets to the Hugging Face Hub: in one commit, checked afterwards, with clear lines when it does not."""

import hashlib
import io
import json
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, get_token, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.hf_api import RepoFile

from .shipping import CARD, SHOWN_PICTURE, card_files, model_files, plain_card

ATTEMPTS = 3


def push_pipeline(
    pipe: Any,
    folder: str | Path,
    repo_id: str,
    commit_message: str | None,
    private: bool | None,
    token: str | None,
    revision: str | None,
    create_pr: bool,
) -> str:
    """Puts a pipeline that has been saved up, with the card it came with.

    Args:
        pipe: The pipeline; the card is that of the folder or repository it was loaded from.
        folder: Where it has been saved.
        repo_id: Where it goes; without a user, to that of the token.
        commit_message: Of the commit.
        private: Whether nobody else may see the repository.
        token: Of the Hub.
        revision: Branch to commit to.
        create_pr: Open a pull request.

    Returns:
        The address of the commit.

    Raises:
        ValueError: If the Hub did not take all of it.
    """
    files, repo_id = model_files(folder), with_user(repo_id, token)
    source = pipe.config.get("_name_or_path")
    if source is not None and Path(source, CARD).is_file():
        files |= card_files(source, repo_id)
    elif source is not None and source != repo_id and _fetch_card(source, folder, token):
        files |= card_files(folder, repo_id)
    elif not _has_card(repo_id, revision, token):
        files[CARD] = plain_card(repo_id, pipe.config).encode()
    message = commit_message or f"Upload {type(pipe).__name__}"
    return push_files(files, repo_id, message, private, token, revision, create_pr)


def with_user(repo_id: str, token: str | None = None) -> str:
    """The whole name of a repository that may be named without its user, as diffusers allows.

    Args:
        repo_id: `user/name`, or `name` alone.
        token: Of the Hub; none takes HF_TOKEN or what `hf auth login` stored.

    Returns:
        `user/name`.

    Raises:
        ValueError: If the Hub does not tell whose token it is.
    """
    if "/" in repo_id:
        return repo_id
    secret = token or get_token()
    try:
        return f"{HfApi(token=token).whoami()['name']}/{repo_id}"
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        reason = _reason(error, repo_id, secret)
    line = f"repo_id is {repo_id!r}, without a user, and the Hub was asked for yours. {reason} Nothing was sent."
    raise ValueError(_without(secret, line))


def _fetch_card(source: str, folder: str | Path, token: str | None) -> bool:
    """Brings the card of the repository a pipeline was loaded from; whether there was one."""
    try:
        text = Path(hf_hub_download(source, CARD, token=token)).read_text()
        for name in (CARD, *SHOWN_PICTURE.findall(text)):
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(hf_hub_download(source, name, token=token), target)
    except (HTTPError, OSError, ValueError):
        return False
    return True


def _has_card(repo_id: str, revision: str | None, token: str | None) -> bool:
    try:
        return HfApi(token=token).file_exists(repo_id, CARD, revision=revision)
    except (HTTPError, OSError):
        return False


def push_files(
    files: Mapping[str, Path | bytes],
    repo_id: str,
    commit_message: str,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
) -> str:
    """Puts files into a model repository, made if it is not there, in one commit: all of them or none.

    What fails for a while is tried again. Large files that have arrived are not sent twice, also not by the next call.

    Args:
        files: Contents by path in the repository.
        repo_id: `user/name`.
        commit_message: Of the commit.
        private: Whether nobody else may see the repository.
        token: Of the Hub; none takes HF_TOKEN or what `hf auth login` stored.
        revision: Branch to commit to, made if it is not there.
        create_pr: Open a pull request.

    Returns:
        The address of the commit.

    Raises:
        ValueError: If the Hub did not take all of it; the message says why and what is missing, never the token.
    """
    if repo_id.count("/") != 1:
        raise ValueError(f"repo_id is {repo_id!r}; it must be user/name")
    api, secret, sent = HfApi(token=token), token or get_token(), False
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if sent and not create_pr and _all_there(api, files, repo_id, revision):
                return f"{api.endpoint}/{repo_id}"  # the commit was made, and its answer lost
            _make_place(api, repo_id, private, revision)
            sent = True
            return _commit(api, files, repo_id, commit_message, revision, create_pr)
        except (HTTPError, OSError, RuntimeError, ValueError) as error:
            if attempt < ATTEMPTS and _passes(error):
                time.sleep(2**attempt)
                continue
            reason = _reason(error, repo_id, secret)
            break
    line = f"{reason} {_state(api, files, repo_id, revision) if sent else 'Nothing was sent.'}"
    raise ValueError(_without(secret, line)) from None  # its context could show what the Hub echoed


def _make_place(api: HfApi, repo_id: str, private: bool | None, revision: str | None) -> None:
    api.create_repo(repo_id, private=private, exist_ok=True)
    if private and not api.model_info(repo_id).private:
        raise ValueError(f"private is True, and {repo_id} is there already for all to see; make it private first")
    if revision is not None and not revision.startswith("refs/"):
        api.create_branch(repo_id, branch=revision, exist_ok=True)


def _commit(
    api: HfApi,
    files: Mapping[str, Path | bytes],
    repo_id: str,
    commit_message: str,
    revision: str | None,
    create_pr: bool,
) -> str:
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    commit = api.create_commit(
        repo_id, operations, commit_message=commit_message, revision=revision, create_pr=create_pr
    )
    differing = [] if create_pr else _missing(api, files, repo_id, commit.oid)
    if differing:
        raise ValueError(f"the Hub took the commit, but not as it was sent: {', '.join(differing)}.")
    return commit.pr_url or commit.commit_url


def _state(api: HfApi, files: Mapping[str, Path | bytes], repo_id: str, revision: str | None) -> str:
    """What the repository lacks, in a sentence."""
    try:
        missing = _missing(api, files, repo_id, revision)
        state = f"{len(missing)} of {len(files)} files are missing or differ: {', '.join(missing)}"
    except (HTTPError, OSError, ValueError):
        state = f"which of the {len(files)} files are there could not be asked"
    return f"In {repo_id}, {state}. The same call again goes on from there."


def _all_there(api: HfApi, files: Mapping[str, Path | bytes], repo_id: str, revision: str | None) -> bool:
    try:
        return not _missing(api, files, repo_id, revision)
    except (HTTPError, OSError, ValueError):
        return False


def _missing(api: HfApi, files: Mapping[str, Path | bytes], repo_id: str, revision: str | None) -> list[str]:
    """Files that the repository does not hold as they are here."""
    there = {
        entry.path: entry
        for entry in api.list_repo_tree(repo_id, recursive=True, revision=revision)
        if isinstance(entry, RepoFile)
    }
    return [path for path, content in files.items() if not _same(content, there.get(path))]


def _same(content: Path | bytes, entry: RepoFile | None) -> bool:
    """Whether an entry of a repository is this content: by SHA-256 in large file storage, else as git names it."""
    if entry is None:
        return False
    if entry.lfs is not None:
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream:
            return entry.lfs.sha256 == hashlib.file_digest(stream, "sha256").hexdigest()
    data = content if isinstance(content, bytes) else content.read_bytes()
    return entry.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _cause(error: BaseException) -> BaseException:
    """What the Hub answered, or what lies right below an error of huggingface_hub."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, HfHubHTTPError):
            return below
        below = below.__cause__
    return error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error


def _status(error: BaseException) -> int | None:
    cause = _cause(error)
    return cause.response.status_code if isinstance(cause, HfHubHTTPError) else None


def _passes(error: Exception) -> bool:
    """Whether trying again may help."""
    status = _status(error)
    if status is not None:
        return status >= 500 or status in (408, 429)
    return isinstance(_cause(error), HTTPError | json.JSONDecodeError)


def _reason(error: Exception, repo_id: str, secret: str | None) -> str:
    """One sentence on what went wrong and what to do."""
    shown = _cause(error) if isinstance(error, RuntimeError) else error
    status, said = _status(error), " ".join(str(shown).split())
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it to reach the Hub."
    if status == 401:
        what = "does not accept the token" if secret else "asks for a token, and none is set"
        return f"The Hub {what} (401); log in by `hf auth login`, or set HF_TOKEN to one that may write."
    if status == 403:
        return f"The token may not write to {repo_id} (403); it needs the right to write there."
    if status is not None and status >= 500:
        return f"The Hub failed ({status}), {ATTEMPTS} times and more."
    if status is None and _passes(error):
        return f"The connection to the Hub was lost, {ATTEMPTS} times and more ({said})."
    return said if said.endswith(".") else f"{said}."


def _without(secret: str | None, text: str) -> str:
    text = text.replace(secret, "***") if secret else text
    return re.sub(r"\bhf_\w{3,}", "hf_***", text)
