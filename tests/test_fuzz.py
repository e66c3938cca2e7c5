"""Random configurations and picture files: a result or one line of error, and no partial files."""

import contextlib
import dataclasses
import io
import shutil
import tempfile
import typing
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from halfface_pipeline import HalfFaceInpaintPipeline
from halfface_pipeline.cli.main import main as cli
from halfface_pipeline.config.files import SECTIONS
from halfface_pipeline.config.schema import DataConfig
from halfface_pipeline.data import load_images
from tests.fixtures import AS_IT_IS
from train_halfface import main

pytestmark = pytest.mark.slow

FEW = {"deadline": None, "database": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
TINY = """
data: {height: 20, width: 16, num_images: 6, num_eval_images: 2}
model: {block_out_channels: [8, 16], layers_per_block: 1, norm_num_groups: 4, attention_head_dim: 8}
training: {steps: 2, batch_size: 2, log_every: 1, checkpoint_every: 1, sample_every: null}
sampling: {num_inference_steps: 1, num_faces: 1, num_completions: 1}
output: {tracker: none}
"""
SMALL = ["-1", "0", "1", "2", "3", "7", "20", "0.5", "1e-30", "1e300", "nan", "-inf", "null", "true", "", "x", "a: b"]
SMALL += ["[]", "{}", "[8, 16]", "[8, x]", "{a: 1}", "'", '"', "[", "ä", "../..", "-"]
HUGE = ["10000000000000000000000", "1000000000000000", "-1e400"]
ENDLESS = {"training.steps", "training.epochs", "output.dir", "data.path"}
"""Settings whose valid values may train for ever or write outside the folder."""


def values_of(kind):
    """The allowed values of a Literal setting."""
    literals = [part for part in (kind, *typing.get_args(kind)) if typing.get_origin(part) is typing.Literal]
    return [str(word) for literal in literals for word in typing.get_args(literal) if word != "hub"]


def settings_of(values):
    """Up to two settings, each with one of the values or an allowed one."""
    fields = {
        f"{section}.{field.name}": values_of(typing.get_type_hints(kind)[field.name])
        for section, kind in SECTIONS.items()
        for field in dataclasses.fields(kind)
    }
    pairs = st.sampled_from(sorted(fields)).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(values + 3 * fields[name]))
    )
    return st.lists(pairs, min_size=1, max_size=2)


def said(words, program=main):
    """Exit status and lines of a command; an exception is a traceback."""
    AcceleratorState._reset_state(reset_partial_state=True)
    lines = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stderr(lines), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            status = program([str(word) for word in words])
        except SystemExit as end:  # argparse
            status = end.code
    return status, lines.getvalue()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Holds tiny.yaml; relative paths land in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


@settings(max_examples=30, **FEW)
@given(settings_of(SMALL + HUGE))
def test_any_setting_is_described_or_refused_in_one_line(folder, pairs):
    words = [f"--{name}={value}" for name, value in pairs]
    if any(name.startswith("model.") and value in HUGE for name, value in pairs):
        return
    status, lines = said(["--config", folder / "tiny.yaml", *words, "--dry_run"])
    assert status == 0 or (status == 2 and lines.strip().splitlines()[-1].startswith("train_halfface.py: error: "))
    assert not (folder / "runs").exists()


@settings(max_examples=12, **FEW)
@given(settings_of(SMALL).filter(lambda pairs: not ENDLESS & {name for name, _ in pairs}))
@example([("optimizer.lr", "1e300"), ("training.max_bad_steps", "0")])
@example([("training.seed", "3"), ("training.max_loss", "1e-30")])
def test_any_setting_trains_or_is_refused_and_leaves_a_folder_that_can_be_trained_in(folder, pairs):
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    words = ["--config", folder / "tiny.yaml", "--output.dir", run]
    status, lines = said([*words, *(f"--{name}={value}" for name, value in pairs)])
    assert status in (0, 2), lines
    assert not list(run.rglob(".partial-*"))
    if status == 2:
        assert lines.strip().splitlines()[-1].startswith("train_halfface.py: error: ")
        assert not (run / "model_index.json").exists()
        if run.exists():
            again = said([*words, "--output.overwrite", "true"])
            assert again[0] == 0, again[1]
    if run.exists():
        HalfFaceInpaintPipeline.from_pretrained(run)


@settings(max_examples=20, **FEW)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode), st.sampled_from(SMALL).map(str.encode)))
@example(b"data: {height: [}")
@example(b"data:\n  height: !!python/object/apply:os.system [touch ran]\n")
@example(b"&a [*a]")
@example(b"training: 3\n")
@example(b"data: null\n")
@example(b"\xff\xfe\x00")
@example(b"config: tiny.yaml\n")
def test_any_file_is_a_configuration_or_refused_in_one_line(folder, content):
    (folder / "any.yaml").write_bytes(content)
    status, lines = said(["--config", folder / "any.yaml", "--dry_run"])
    assert status == 0 or (status == 2 and "train_halfface.py: error: " in lines.strip().splitlines()[-1]), lines
    assert sorted(path.name for path in folder.iterdir()) == ["any.yaml", "tiny.yaml"]


# ------------------------------------------------------------------------------------------------------------ pictures

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")


def encoded(kind):
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    Image.fromarray(pixels).save(stream, kind, **({"exif": Image.Exif()} if kind == "JPEG" else {}))
    return stream.getvalue()


@st.composite
def pictures(draw):
    """A picture file with some bytes changed, most of them in its header, and maybe an end cut off or put in."""
    content = bytearray(encoded(draw(st.sampled_from(FORMATS))))
    for _ in range(draw(st.integers(0, 6))):
        last = draw(st.sampled_from([40, 200, len(content)]))
        content[draw(st.integers(0, min(last, len(content)) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        del content[draw(st.integers(0, len(content))) :]
    return bytes(content)


@settings(max_examples=40, **FEW)
@given(pictures(), st.sampled_from([".png", ".jpg"]))
def test_any_file_of_a_picture_folder_is_read_or_named(content, suffix):
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = Path(name) / "pictures"
        for part in ("train", "test"):
            (root / part).mkdir(parents=True)
            Image.new("RGB", (20, 20), (1, 2, 3)).save(root / part / "good.bmp")
        (root / "train" / f"any{suffix}").write_bytes(content)
        data = DataConfig("imagefolder", str(root), height=16, width=16, cache_dir=str(Path(name) / "cache"))
        skipping = load_images(dataclasses.replace(data, on_bad_image="skip"), "train", progress=False)
        assert (skipping.images[-1] == (1, 2, 3)).all()
        assert len(skipping) + len(skipping.skipped) == 2
        if skipping.skipped:
            with pytest.raises(ValueError, match=rf"any\{suffix} in .* cannot be read: "):
                load_images(data, "train", progress=False)
        else:
            assert load_images(data, "train", progress=False).images.shape == (2, 16, 16, 3)
        assert not list((Path(name) / "cache").glob("unfinished-*"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "tiny.yaml").write_text(TINY)
    assert said(["--config", folder / "tiny.yaml", "--output.dir", folder / "run"])[0] == 0
    return folder / "run"


def bomb():
    """A PNG whose header claims 60,000 x 60,000 pixels."""
    content = bytearray(encoded("PNG"))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@settings(max_examples=10, **FEW)
@given(pictures())
@example(bomb())
def test_any_photo_is_completed_or_named(model, content):
    with tempfile.TemporaryDirectory() as name:
        photo, out = Path(name) / "any.jpg", Path(name) / "out"
        photo.write_bytes(content)
        words = ["complete", *AS_IT_IS, photo, "--model", model, "-n", 1, "--steps", 1, "--out", out]
        status, lines = said(words, cli)
        assert status == 0 or (status == 2 and f"PHOTO is {str(photo)!r}" in lines and not out.exists()), lines
