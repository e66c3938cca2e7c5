"""Files that are the old one or the new one, never a part of one."""

import os
import signal
import sys
from pathlib import Path

import pytest

from halfface_pipeline.run_folder.files import PARTIAL, atomic_write, atomic_write_text, fsync


def test_a_file_is_made_and_replaced(tmp_path):
    file = tmp_path / "a.txt"
    atomic_write_text(file, "one")
    atomic_write_text(file, "two")
    assert file.read_text() == "two" and os.listdir(tmp_path) == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "picture.png"
    file.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(file) as partial:
        assert partial.suffix == ".png" and partial.parent == tmp_path
        partial.write_text("half")
        assert file.read_text() == "old"
        raise ZeroDivisionError
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["picture.png"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    file = tmp_path / "a.txt"
    file.write_text("old")
    (tmp_path / f"{PARTIAL}a.txt").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        atomic_write_text(file, "new")
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    child = os.fork()
    if not child:
        with atomic_write(file) as partial:
            partial.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert file.read_text() == "old"
    atomic_write_text(file, "new")
    assert file.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]


def test_files_and_folders_are_flushed(tmp_path):
    atomic_write_text(tmp_path / "a.txt", "x")
    fsync(tmp_path / "a.txt")
    fsync(tmp_path)
    with pytest.raises(FileNotFoundError):
        fsync(tmp_path / "gone")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_folder_of_a_file_system_that_flushes_none_is_passed_over_and_a_file_is_not():
    fsync(Path("/proc"))
    with pytest.raises(OSError, match="Invalid argument"):
        fsync(Path("/proc/version"))
