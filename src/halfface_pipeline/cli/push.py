"""`halfface push`."""

import argparse
from pathlib import Path

from ..hub.push import (
    EDITED,
    full_repo_id,
    is_card_edited,
    keep_license,
    push_files,
    run_files,
    states_data_license,
)
from .parser import Parser


def add_arguments(parser: Parser) -> None:
    """Describes the command `push`."""
    parser.describe(
        "Push a run to the Hugging Face Hub in one commit: weights, scheduler, the code to load them, "
        "configuration, log, figures, and a card rendered with all measurements. Log in with `hf auth login` first, "
        "or set HF_TOKEN.",
        example="halfface push runs/demo someone/halfface-demo --private",
    )
    parser.add_argument("run", metavar="RUN", help="run folder")
    text = "user/name, or name alone for your own account; created if it does not exist"
    parser.add_argument("repo_id", metavar="REPO_ID", help=text)
    parser.add_argument("--private", action="store_true", help="make the repository private")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to commit to, created if it does not exist")
    parser.add_argument("--message", metavar="TEXT", help="commit message (default: names the run)")
    parser.add_argument("--license", metavar="ID", help="licence of the weights, as the Hub names it: apache-2.0, ...")
    parser.add_argument("--dry-run", action="store_true", help="list what would be pushed, and stop")
    parser.set_defaults(command=_push)


def _push(options: argparse.Namespace) -> None:
    run = Path(options.run)
    repo_id = options.repo_id if options.dry_run else full_repo_id(options.repo_id)
    files = run_files(run, repo_id, options.license)
    if is_card_edited(run):
        print(f"README.md is pushed as it is: it {EDITED}")
    if not states_data_license(run):
        print("data.license is not set: the card says that the licence of the training data is not stated")
    sizes = {name: len(file) if isinstance(file, bytes) else file.stat().st_size for name, file in files.items()}
    total = f"{len(files)} files, {sum(sizes.values()) / 1e6:.1f} MB"
    if options.dry_run:
        for name, size in sizes.items():
            print(f"{size:>13,} {name}")
        print(f"{total}; nothing was pushed")
        return
    if options.license is not None:
        keep_license(run, options.license)
    message = options.message or f"Upload {run.resolve().name}"
    print(f"{total}: {push_files(files, repo_id, message, options.private, options.revision)}")
