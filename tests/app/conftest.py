"""A page of `halfface app` that is up, around a tiny random model."""

import io
import tempfile
import time

import PIL.Image
import pytest

from halfface_pipeline.app import temporary_files
from halfface_pipeline.data.procedural import faces


@pytest.fixture
def handlers(tiny_pipeline):
    """The handlers of a page around a tiny model."""
    pytest.importorskip("gradio", reason="the extra `app` is not installed")
    from halfface_pipeline.app.handlers import Handlers

    return Handlers(tiny_pipeline(), "tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of gradio's files, beside nothing that another process of the tests writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        with temporary_files() as folder:
            yield folder


@pytest.fixture(scope="module")
def page(tiny_pipeline, folder):
    """A page around that model while it is up; uploads may have half a megabyte."""
    from halfface_pipeline.app.page import build_page, launch

    pipe = tiny_pipeline()
    pipe.unet.register_forward_pre_hook(lambda *_: time.sleep(0.005))  # slow enough for Stop to be pressed in between
    page = build_page(pipe, "tiny")
    launch(page, "127.0.0.1", None, upload_mb=0.5)
    yield page
    page.close(verbose=False)


@pytest.fixture
def photo(tmp_path):
    """A photo of a drawn face, wider than the model's images and on its side by its EXIF data."""
    picture = PIL.Image.new("RGB", (240, 200), "grey")
    picture.paste(PIL.Image.fromarray(faces(1, 200, 160)[0][0]), (40, 0))
    exif = PIL.Image.Exif()
    exif[0x0112] = 8
    buffer = io.BytesIO()
    picture.transpose(PIL.Image.Transpose.ROTATE_270).save(buffer, "JPEG", exif=exif)
    file = tmp_path / "me.jpg"
    file.write_bytes(buffer.getvalue())
    return file
