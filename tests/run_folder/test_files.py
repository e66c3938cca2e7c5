"""Files that are the old one or the new one, never a part of one."""

import os
import signal
import sys
from pathlib import Path

import pytest

from halfface_pipeline.run_folder.files import PARTIAL, flush, replacing, write_whole


def test_a_file_is_made_and_replaced(tmp_path):
    file = tmp_path / "a.txt"
    write_whole(file, "one")
    write_whole(file, "two")
    assert file.read_text() == "two" and os.listdir(tmp_path) == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "picture.png"
    file.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(file) as partial:
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
        write_whole(file, "new")
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    child = os.fork()
    if not child:
        with replacing(file) as partial:
            partial.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert file.read_text() == "old"
    write_whole(file, "new")
    assert file.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]


def test_files_and_folders_are_flushed(tmp_path):
    write_whole(tmp_path / "a.txt", "x")
    flush(tmp_path / "a.txt")
    flush(tmp_path)
    with pytest.raises(FileNotFoundError):
        flush(tmp_path / "gone")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_folder_of_a_file_system_that_flushes_none_is_passed_over_and_a_file_is_not():
    flush(Path("/proc"))
    with pytest.raises(OSError, match="Invalid argument"):
        flush(Path("/proc/version"))
