"""`halfface app --export-space`: a folder that is a Space."""

import importlib.metadata
import io
import os
import re
import runpy
import signal
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import halfface_pipeline
from halfface_pipeline import HalfFaceInpaintPipeline
from halfface_pipeline.cli.main import main
from halfface_pipeline.hub.space import export_space
from halfface_pipeline.inference.load import PACKAGED

pytest.importorskip("gradio", reason="the extra `app` is not installed")


@pytest.fixture
def model(tiny_pipeline, tmp_path):
    """A saved tiny model, as --model takes it."""
    tiny_pipeline().save_pretrained(tmp_path / "tiny")
    return str(tmp_path / "tiny")


def front_matter(folder):
    return yaml.safe_load((folder / "README.md").read_text().split("---")[1])


def test_the_space_holds_page_package_and_model_and_says_what_to_install(model, tmp_path, capsys):
    space = tmp_path / "space"
    assert main(["app", "--model", model, "--export-space", str(space)]) == 0
    assert capsys.readouterr().out.strip() == str(space)
    assert {path.name for path in space.iterdir()} == {
        "app.py",
        "halfface_pipeline",
        "model",
        "README.md",
        "requirements.txt",
    }
    settings = front_matter(space)
    assert settings["sdk"] == "gradio" and settings["app_file"] == "app.py"
    assert settings["sdk_version"] == importlib.metadata.version("gradio")
    assert len(settings["short_description"]) <= 60
    lines = (space / "requirements.txt").read_text().split()
    assert f"diffusers=={importlib.metadata.version('diffusers')}" in lines
    assert f"mtcnn=={importlib.metadata.version('mtcnn')}" in lines  # what finds faces
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert not any(line.startswith(("torchvision", "gradio", "pytest", "torchmetrics", "scikit")) for line in lines)
    assert lines == sorted(lines, key=str.lower)
    assert str(tmp_path) not in "".join(path.read_text() for path in space.glob("*.*"))
    half = np.full((10, 16, 3), 90, np.uint8)
    one, other = (
        HalfFaceInpaintPipeline.from_pretrained(folder)(
            half, num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="np"
        ).images
        for folder in (model, space / "model")
    )
    assert np.array_equal(one, other)


def test_a_model_of_the_hub_is_named_and_not_copied(tiny_pipeline, tmp_path):
    export_space(tiny_pipeline(), "user/faces", "user/faces", tmp_path, 7)
    assert not (tmp_path / "model").exists()
    assert "load_pipeline('user/faces')" in (tmp_path / "app.py").read_text()
    assert "upload_mb=7" in (tmp_path / "app.py").read_text()
    assert front_matter(tmp_path)["models"] == ["user/faces"]


def test_the_terms_of_a_packaged_model_are_shown(tiny_pipeline, tmp_path, monkeypatch):
    export_space(tiny_pipeline(), "drawn", "drawn", tmp_path / "space", 7)
    assert f"terms={PACKAGED['drawn']!r}" in (tmp_path / "space" / "app.py").read_text()
    # A folder of that name is another model.
    monkeypatch.chdir(tmp_path)
    tiny_pipeline().save_pretrained("drawn")
    export_space(tiny_pipeline(), "drawn", "drawn", tmp_path / "other", 7)
    assert "terms=''" in (tmp_path / "other" / "app.py").read_text()


def test_another_projects_folder_is_left_alone_and_a_space_is_written_again(tiny_pipeline, model, tmp_path, capsys):
    (tmp_path / "README.md").write_text("mine")
    assert main(["app", "--model", model, "--export-space", str(tmp_path)]) == 2
    assert "its README.md is not that of a Space" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "tiny"}
    for _ in range(2):
        assert main(["app", "--model", model, "--export-space", str(tmp_path / "space")]) == 0


@pytest.mark.slow
def test_the_app_of_the_space_shows_its_page(model, tmp_path, monkeypatch):
    space = tmp_path / "space"
    main(["app", "--model", model, "--export-space", str(space)])
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    seen = []

    def visit():
        for _ in range(300):
            if "shows the page" in sys.stdout.getvalue():
                address = re.search(r"http://\S+", sys.stdout.getvalue())[0]
                seen.append(urllib.request.urlopen(f"{address}config").read().decode())
                break
            time.sleep(0.1)
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # or it would end the tests
            os.kill(os.getpid(), signal.SIGTERM)

    visitor = threading.Thread(target=visit)
    visitor.start()
    runpy.run_path(str(space / "app.py"), run_name="__main__")
    visitor.join()
    assert "Model: tiny" in seen[0]


def test_the_package_in_the_space_is_whole(model, tmp_path):
    main(["app", "--model", model, "--export-space", str(tmp_path / "space")])

    def files(folder):
        return {path.relative_to(folder) for path in folder.rglob("*.*") if "__pycache__" not in path.parts}

    assert files(tmp_path / "space" / "halfface_pipeline") == files(Path(halfface_pipeline.__file__).parent)
