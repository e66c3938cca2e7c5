"""Checkpoints: complete or absent, the newest undamaged one chosen."""

import hashlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from halfface_pipeline.run_folder.checkpoints import (
    Checkpoint,
    find_corruption,
    load_newest_checkpoint,
    save_checkpoint,
)


def checkpoint(step):
    weight = torch.nn.Parameter(torch.full((2, 3), float(step)))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    return Checkpoint(
        step=step,
        network={"weight": weight.detach().clone()},
        average={"weight": torch.full((2, 3), step / 2)},
        optimizer={"optimizer": optimizer.state_dict(), "scaler": {}},
        progress={"loss_sum": 0.1 * step, "steps_in_sum": 3},
    )


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    written = checkpoint(7)
    folder = save_checkpoint(tmp_path, written, keep_last=1)
    read = load_newest_checkpoint(tmp_path)
    assert folder == tmp_path / "step-7"
    assert (read.step, read.progress) == (7, written.progress)
    assert torch.equal(read.network["weight"], written.network["weight"])
    assert torch.equal(read.average["weight"], written.average["weight"])
    before, after = written.optimizer["optimizer"]["state"][0], read.optimizer["optimizer"]["state"][0]
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_nothing_saved_gives_nothing(tmp_path):
    assert load_newest_checkpoint(tmp_path / "checkpoints") is None


def test_the_newest_by_number_are_kept(tmp_path):
    for step in (8, 9, 10, 100):
        save_checkpoint(tmp_path, checkpoint(step), keep_last=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-100"]
    assert load_newest_checkpoint(tmp_path).step == 100


def test_checkpoints_at_multiples_of_keep_every_stay(tmp_path):
    for step in range(1, 11):
        save_checkpoint(tmp_path, checkpoint(step), keep_last=2, keep_every=4)
    assert {path.name for path in tmp_path.iterdir()} == {"step-4", "step-8", "step-9", "step-10"}


def test_what_another_process_left_half_written_is_no_checkpoint_and_is_cleared(tmp_path):
    save_checkpoint(tmp_path, checkpoint(1), keep_last=2)
    (tmp_path / ".partial-step-2").mkdir()
    (tmp_path / ".partial-step-2" / "network.safetensors").write_bytes(b"half")
    os.replace(tmp_path / "step-1", tmp_path / ".partial-old-step-1")  # killed while it was being deleted
    assert load_newest_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, checkpoint(3), keep_last=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-3"]


@pytest.mark.parametrize("fault", ["truncated", "changed", "missing", "no manifest", "no json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, fault):
    for step in (1, 2):
        save_checkpoint(tmp_path, checkpoint(step), keep_last=2)
    weights, manifest = tmp_path / "step-2" / "network.safetensors", tmp_path / "step-2" / "manifest.json"
    if fault == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif fault == "changed":
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    elif fault == "missing":
        weights.unlink()
    elif fault == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text("{")
    assert find_corruption(tmp_path / "step-1") is None
    with pytest.warns(UserWarning, match="step-2 is damaged"):
        assert load_newest_checkpoint(tmp_path).step == 1


class RunsCode:
    """What an attacker would pickle."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("content", ["code", "another pickle", "another safetensors"])
def test_a_whole_checkpoint_that_is_not_ours_is_passed_over_and_runs_no_code(tmp_path, content):
    """Its manifest fits, as that of somebody who means it would."""
    for step in (1, 2):
        save_checkpoint(tmp_path, checkpoint(step), keep_last=2)
    folder, ran = tmp_path / "step-2", tmp_path / "ran"
    if content == "another safetensors":
        (folder / "network.safetensors").write_bytes(b"no header")
    else:
        torch.save({"optimizer": RunsCode(ran) if content == "code" else Checkpoint}, folder / "optimizer.pt")
    files = [file for file in folder.iterdir() if file.name != "manifest.json"]
    digests = {
        file.name: {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in files
    }
    (folder / "manifest.json").write_text(json.dumps(digests))
    assert find_corruption(folder) is None
    with pytest.warns(UserWarning, match="step-2 is damaged"):
        assert load_newest_checkpoint(tmp_path).step == 1
    assert not ran.exists()


NOBODY = 65534
FILE_EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}


def save_killed_before(event, folder):
    """Saves step 2 in a process killed before the so-manieth operation on a file; whether it was killed."""
    child = os.fork()
    if not child:
        left = iter(range(event))
        sys.addaudithook(
            lambda name, _: (
                os.kill(os.getpid(), signal.SIGKILL) if name in FILE_EVENTS and next(left, None) is None else None
            )
        )
        save_checkpoint(folder, checkpoint(2), keep_last=1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.slow
def test_a_process_killed_before_any_operation_on_a_file_leaves_whole_checkpoints(tmp_path):
    event, newest = 0, []
    killed = True
    while killed:
        folder = tmp_path / str(event)
        save_checkpoint(folder, checkpoint(1), keep_last=1)
        killed = save_killed_before(event, folder)
        assert all(find_corruption(path) is None for path in folder.glob("step-*"))
        newest.append(load_newest_checkpoint(folder).step)
        save_checkpoint(folder, checkpoint(3), keep_last=1)
        assert [path.name for path in folder.iterdir()] == ["step-3"]
        event += 1
    assert newest == sorted(newest) and newest[0] == 1 and newest[-2:] == [2, 2] and len(newest) > 20


def test_saving_after_damage_keeps_what_was_just_saved_and_clears_what_it_supersedes(tmp_path):
    for step in (1, 8, 9):
        save_checkpoint(tmp_path, checkpoint(step), keep_last=3)
    for step in (8, 9):
        (tmp_path / f"step-{step}" / "network.safetensors").unlink()
    save_checkpoint(tmp_path, checkpoint(5), keep_last=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-1", "step-5"]


def test_nothing_but_damaged_checkpoints_is_an_error_and_no_fresh_start(tmp_path):
    folder = save_checkpoint(tmp_path, checkpoint(1), keep_last=1)
    (folder / "progress.json").unlink()
    with pytest.warns(UserWarning), pytest.raises(ValueError, match=r"every checkpoint in .* is damaged"):
        load_newest_checkpoint(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_checkpoint_that_may_not_be_read_is_not_taken_for_damaged():
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        for step in (1, 2):
            folder = save_checkpoint(Path(name), checkpoint(step), keep_last=2)
            folder.chmod(0o755)
        (folder / "optimizer.pt").chmod(0)
        os.seteuid(NOBODY)
        try:
            with pytest.raises(PermissionError, match=r"optimizer\.pt"):
                load_newest_checkpoint(Path(name))
        finally:
            os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_old_checkpoint_that_cannot_be_deleted_ends_no_training():
    """As on a network file system while somebody reads it."""
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, NOBODY, NOBODY)
        stuck = Path(name) / ".partial-old-step-1"
        stuck.mkdir(mode=0o555)
        (stuck / "optimizer.pt").touch()
        os.seteuid(NOBODY)
        try:
            assert find_corruption(save_checkpoint(Path(name), checkpoint(2), keep_last=1)) is None
        finally:
            os.seteuid(0)


def test_the_manifest_lists_every_file_and_all_are_readable_by_the_group(tmp_path):
    folder = save_checkpoint(tmp_path, checkpoint(1), keep_last=1)
    files = {path.name for path in folder.iterdir()}
    assert set(json.loads((folder / "manifest.json").read_text())) == files - {"manifest.json"}
    assert all(path.stat().st_mode & 0o040 for path in folder.iterdir())
