"""Who may train in a run folder, and what is left of it when something fails."""

import contextlib
import dataclasses
import os
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from forked import ended, start, wait_for
from PIL import Image
from safetensors.torch import load_file

from halfface_pipeline.config.files import to_yaml
from halfface_pipeline.run_folder.checkpoints import find_corruption
from halfface_pipeline.training.loop import train
from tests.fixtures import changed

NOBODY = 65534


def written(config, folder):
    """A configuration file for `train_halfface.py`."""
    file = folder / "config.yaml"
    file.write_text(to_yaml(config))
    return file


def on_pictures(config, folder):
    """The run for two steps on six pictures, in FOLDER/run; pictures and cache lie beside it."""
    for part in ("train", "test"):
        (folder / "pictures" / part).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng(number).integers(0, 256, (20, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / part / f"{number}.png")
    changes = {"num_images": None, "num_eval_images": None, "cache_dir": str(folder / "cache")}
    config = changed(config, "data", source="imagefolder", path=str(folder / "pictures"), **changes)
    return changed(changed(config, "training", steps=2), "output", dir=str(folder / "run"))


@pytest.fixture
def of_pictures(tiny_config, tmp_path):
    """The tiny run on six pictures of a folder, and that folder."""
    return on_pictures(tiny_config, tmp_path), tmp_path / "pictures" / "train"


@contextlib.contextmanager
def as_nobody(*folders):
    """Without root's right to read and write everything; the folders are given away first."""
    if os.geteuid():
        yield
        return
    for folder in folders:
        os.chown(folder, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public():
    """A folder that another user may reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


# --------------------------------------------------------------------------------------------------------------- locks


@pytest.mark.slow
def test_a_second_training_in_a_folder_is_refused_until_the_first_has_ended(tiny_config, tmp_path):
    config = changed(tiny_config, "training", steps=100_000, log_every=1, checkpoint_every=2)
    file, run = written(config, tmp_path), Path(config.output.dir)
    first = start(tmp_path / "first.txt", "--config", file)
    wait_for(lambda: any(run.glob("checkpoints/step-*")))
    second = start(tmp_path / "second.txt", "--config", file)
    assert ended(second) == 2
    [line] = (tmp_path / "second.txt").read_text().strip().splitlines()
    assert "in which another training is running; stop it, or choose another folder" in line
    assert first.is_alive()
    first.kill()  # the lock is the system's and ends with the process
    assert ended(first) == -signal.SIGKILL
    third = start(tmp_path / "third.txt", "--config", file)
    there = {path.name for path in run.glob("checkpoints/step-*")}
    wait_for(lambda: {path.name for path in run.glob("checkpoints/step-*")} - there)
    assert ", steps 0 to" not in (tmp_path / "third.txt").read_text()
    os.kill(third.pid, signal.SIGTERM)
    assert ended(third) == 130
    last = (tmp_path / "third.txt").read_text().strip().splitlines()[-1]
    step = int(last.split("stopped at step ")[1].split()[0])
    assert (
        "the same command resumes from step" in last and find_corruption(run / "checkpoints" / f"step-{step}") is None
    )


# -------------------------------------------------------------------------------------------------------- changed data


def test_images_that_changed_are_refused_and_named_unless_accepted(of_pictures):
    config, folder = of_pictures
    run = train(config)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and file.suffix != ".lock"}
    (folder / "0.png").unlink()
    Image.new("RGB", (20, 16)).save(folder / "1.png")
    Image.new("RGB", (20, 16)).save(folder / "6.png")
    Image.new("RGB", (20, 16)).save(folder / "7.png")
    longer = changed(config, "training", steps=3)
    message = (
        r"of 6, 1 gone \(0\.png\), 2 new \(6\.png, 7\.png\), 1 changed \(1\.png\); .*--output\.accept_changes true"
    )
    with pytest.raises(ValueError, match=message):
        train(longer)
    assert all(file.read_bytes() == content for file, content in before.items())
    train(changed(longer, "output", accept_changes=True))
    assert (run / "checkpoints" / "step-3").is_dir()
    train(changed(longer, "training", steps=4))  # the new images are this run's own now


def test_images_that_only_lie_elsewhere_or_are_newer_are_the_same(of_pictures):
    config, folder = of_pictures
    train(config)
    for file in folder.iterdir():
        os.utime(file)
    moved = folder.parent.with_name("moved")
    folder.parent.rename(moved)
    longer = changed(changed(config, "training", steps=3), "data", path=str(moved))
    with pytest.raises(ValueError, match=r"data\.path: .* -> .*moved"):
        train(longer)
    train(changed(longer, "output", accept_changes=True))


def test_overwriting_leaves_nothing_of_the_other_run(tiny_config):
    run = train(tiny_config)
    (run / "samples" / "step-0000099.png").write_bytes(b"")
    train(changed(changed(tiny_config, "training", seed=1), "output", overwrite=True))
    assert [file.name for file in (run / "samples").iterdir()] == ["step-0000006.png"]
    assert not list(run.rglob(".partial-*"))


def test_what_a_killed_process_left_half_written_is_cleared_also_from_a_finished_run(tiny_config):
    run = train(tiny_config)
    (run / "checkpoints" / ".partial-old-step-3").mkdir()
    (run / "checkpoints" / ".partial-old-step-3" / "optimizer.pt").write_bytes(b"half")
    for name in (".partial-model/unet/x", "samples/.partial-step-0000006.png", ".partial-loss.png"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(b"half")
    train(tiny_config)
    assert not list(run.rglob(".partial-*"))


def test_a_checkpoint_of_another_network_is_refused_in_one_line(tiny_config, tmp_path):
    run = train(tiny_config)
    wider = dataclasses.replace(tiny_config.model, block_out_channels=(8, 24))
    other = train(changed(dataclasses.replace(tiny_config, model=wider), "output", dir=str(tmp_path / "other")))
    shutil.rmtree(run / "checkpoints" / "step-6")
    shutil.copytree(other / "checkpoints" / "step-6", run / "checkpoints" / "step-6")
    with pytest.raises(ValueError, match=r"^the checkpoint of step 6 in .* does not fit this network and opt.*: .+$"):
        train(tiny_config)


# --------------------------------------------------------------------------------------------------- disks and rights


@contextlib.contextmanager
def files_of_at_most(num_bytes):
    """Real write errors of the system, from the first byte too many on."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_a_write_that_fails_loses_no_checkpoint_and_the_same_command_goes_on(tiny_config, tmp_path):
    """The room grows from nothing to all that a run writes, so that each kind of file is once the first too large."""
    config = changed(tiny_config, "training", steps=3, checkpoint_every=2, keep_last=1, sample_every=1, log_every=1)
    whole = train(changed(config, "output", dir=str(tmp_path / "whole")))
    sizes = sorted({file.stat().st_size for file in whole.rglob("*") if file.is_file()})
    weights = load_file(whole / "checkpoints" / "step-3" / "network.safetensors")
    run, failed = Path(config.output.dir), set()
    largest = (whole / "checkpoints" / "step-3" / "optimizer.pt").stat().st_size
    for size in sorted({*sizes[:: max(1, len(sizes) // 10)], largest}):
        AcceleratorState._reset_state(reset_partial_state=True)
        try:
            with files_of_at_most(max(0, size - 1)):
                train(config)
        except OSError as error:
            failed.add(str(error).split("run/")[-1].split("'")[0] if "Errno" in str(error)[:7] else str(error)[:14])
        assert all(find_corruption(folder) is None for folder in run.glob("checkpoints/step-*"))
        assert not list(run.glob("**/.partial-*/*"))
        shutil.rmtree(run, ignore_errors=True) if size < sizes[len(sizes) // 2] else None
    assert failed >= {"config.yaml", "the checkpoint", "the model cann"}
    train(config)
    ours = load_file(run / "checkpoints" / "step-3" / "network.safetensors")
    assert all((ours[name] == weights[name]).all() for name in weights)


def test_the_error_of_a_full_disk_is_one_line_that_says_what_is_kept(tiny_config):
    run = train(changed(tiny_config, "training", steps=2))
    room = (run / "checkpoints" / "step-2" / "optimizer.pt").stat().st_size - 1
    message = r"the checkpoint of step 3 cannot be written to .*: .*File too large; those before it are kept"
    with files_of_at_most(room), pytest.raises(OSError, match=message):
        train(changed(tiny_config, "training", steps=4))
    assert [folder.name for folder in (run / "checkpoints").glob("*-*")] == ["step-2"]


def test_a_tracker_that_cannot_write_is_told_in_one_line_with_its_file(tiny_config, capfd):
    """Tensorboard writes in a thread of its own."""
    config = changed(tiny_config, "training", steps=2000, log_every=1, checkpoint_every=2000)
    message = r"run/tensorboard cannot be written: .*File too large; the checkpoints are kept"
    with files_of_at_most(20_000), pytest.raises(OSError, match=message):
        train(changed(config, "output", tracker="tensorboard"))
    assert "Traceback" not in capfd.readouterr().err


def test_a_folder_that_may_not_be_written_to_is_named_and_left_alone(tiny_config, public):
    """On pictures: the key of procedural images is computed from the package, which the other user may not reach."""
    (public / "runs").mkdir(mode=0o555)
    config = changed(on_pictures(tiny_config, public), "output", dir=str(public / "runs" / "mine"))
    with (
        as_nobody(public / "runs"),
        pytest.raises(ValueError, match=r"output.dir is '.*'; it must be a folder that can be written to: .*denied"),
    ):
        train(config)
    assert os.listdir(public / "runs") == []


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_place_where_no_folder_can_be_made_is_named(tiny_config):
    with pytest.raises(ValueError, match=r"output.dir is '/proc/run'; it must be a folder that can be written to"):
        train(changed(tiny_config, "output", dir="/proc/run"))


@pytest.mark.parametrize("locked", ["train/inner", "train"])
def test_a_folder_of_pictures_that_may_not_be_read_is_named(tiny_config, public, locked):
    config, place = on_pictures(tiny_config, public), public / "pictures" / locked
    place.mkdir(exist_ok=True)
    place.chmod(0)
    with as_nobody(place), pytest.raises(ValueError, match=rf"{locked} is a folder that cannot be read: Permission"):
        train(config)
    place.chmod(0o755)
    assert not (public / "run").exists() and not (public / "cache").exists()


def test_a_pipe_among_the_pictures_is_a_bad_picture_and_is_not_waited_for(of_pictures):
    config, folder = of_pictures
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png in .* cannot be read: it is not a file"):
        train(config)
