"""The page over HTTP: `halfface_pipeline.app` and its `page`."""

import json
import os
import re
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest

from halfface_pipeline.app import temporary_files
from tests.app.uploads import REFUSALS, malformed

gradio_client = pytest.importorskip("gradio_client", reason="the extra `app` is not installed")
pytest.importorskip("gradio", reason="the extra `app` is not installed")

pytestmark = pytest.mark.slow  # a server
FORM = {"Content-Type": "multipart/form-data; boundary=b"}


def form(name, content):
    """An upload as a browser sends it, with the headers `FORM`."""
    head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
    return head.encode() + b"Content-Type: image/png\r\n\r\n" + content + b"\r\n--b--\r\n"


@pytest.fixture
def client(page, tmp_path):
    return gradio_client.Client(page.local_url, verbose=False, download_files=str(tmp_path / "downloads"))


def test_a_program_completes_a_photo(client, photo, folder):
    faces, original, archive, status, photos = client.predict(
        photo=gradio_client.handle_file(photo),
        sampler_name="dpm++",
        steps=2,
        seed=7,
        completions=2,
        api_name="/complete",
    )
    assert [re.search(r"halfface-seed-\d+", face["image"])[0] for face in faces] == [
        "halfface-seed-7",
        "halfface-seed-8",
    ]
    with PIL.Image.open(faces[1]["image"]) as face, PIL.Image.open(original) as given:
        assert face.text["Comment"] == "AI-generated, hidden half invented"
        assert face.text["seed"] == "8"
        assert np.array_equal(np.array(face)[:10], np.array(given)[:10])
    with PIL.Image.open(photos[1]) as pasted:
        assert pasted.size == (240, 200) and pasted.text["seed"] == "8"
    parameters = client.view_api(return_format="dict")["named_endpoints"]["/complete"]["parameters"]
    left_out = {each["parameter_name"] for each in parameters if each["parameter_has_default"]}
    by_face = {each["parameter_name"] for each in parameters if each["parameter_default"] is None} & left_out
    assert by_face == {"zoom", "across", "down", "turn"} and left_out >= {"steps", "seed", "completions"}
    assert archive.endswith(".zip") and "2 of 2" in status
    outside = [*folder.parent.glob("gradio*"), *folder.parent.glob("halfface-*")]
    assert [path for path in outside if path.stat().st_mtime > folder.stat().st_ctime and path != folder] == []


def test_simultaneous_visitors_are_all_answered(page, photo, tmp_path):
    def visit(seed):
        visitor = gradio_client.Client(page.local_url, verbose=False, download_files=str(tmp_path / str(seed)))
        words = (gradio_client.handle_file(photo), 1, 0, 0, 0, "dpm++", 5, seed, 2)
        return [face["image"] for face in visitor.predict(*words, api_name="/complete")[0]]

    with ThreadPoolExecutor(3) as visitors:
        answers = list(visitors.map(visit, (0, 10, 20)))
    for seed, images in zip((0, 10, 20), answers, strict=True):
        assert [PIL.Image.open(image).text["seed"] for image in images] == [str(seed), str(seed + 1)]


def test_uploads_that_are_not_photos_are_refused(client, folder, tmp_path):
    for name, content in malformed().items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(gradio_client.exceptions.AppError) as refusal:
            client.predict(gradio_client.handle_file(tmp_path / name), steps=1, completions=1, api_name="/complete")
        assert str(refusal.value).startswith(REFUSALS) and str(folder) not in str(refusal.value), name


def test_large_uploads_leave_nothing(page, folder):
    before = set(folder.rglob("*"))
    request = urllib.request.Request(f"{page.local_url}gradio_api/upload", form("large.png", bytes(2**20)), FORM)
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)
    assert error.value.code == 413
    assert "maximum" in error.value.read().decode()
    assert {path for path in folder.rglob("*") if path.is_file()} <= before


def test_other_files_cannot_be_read(page, folder, photo):
    for asked in ("/etc/hostname", f"{folder}/../../etc/hostname", photo):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{page.local_url}gradio_api/file={asked}")
        assert error.value.code in (403, 404), asked


def test_the_page_says_what_the_model_was_trained_on(tiny_pipeline):
    from halfface_pipeline.app.page import build_page

    pipe = tiny_pipeline()
    pipe.register_to_config(trained_on="<faces>")

    def shown(**terms):
        with temporary_files():
            return json.dumps(build_page(pipe, "tiny", **terms).get_config_file())

    assert "Model: tiny, 16 \\u00d7 20 pixels; trained on &lt;faces&gt;." in shown()
    assert "pixels; MIT, trained on photographs." in shown(terms="MIT, trained on photographs")


def test_the_page_names_no_other_server(page):
    html = urllib.request.urlopen(page.local_url).read().decode()
    assert "googleapis" not in html and "gstatic" not in html
    config = json.loads(urllib.request.urlopen(f"{page.local_url}config").read())
    public = [each["api_name"] for each in config["dependencies"] if each["api_visibility"] == "public"]
    assert public == ["complete"]
    assert "identifies nobody" in json.dumps(config) and "half is invented" in json.dumps(config)


def test_old_files_are_deleted_and_examples_stay(client, page, photo, folder):
    from gradio.route_utils import delete_files_created_by_app

    delete_files_created_by_app(page, -1)  # of the tests before
    client.predict(gradio_client.handle_file(photo), completions=1, steps=1, api_name="/complete")

    def files():
        return {path.name for path in folder.rglob("*") if path.is_file()}

    examples = {f"face-{number}.png" for number in range(1, 6)}
    results = {"original.png", "halfface-seed-0.png", "photo-seed-0.png", "halfface-completions.zip"}
    assert files() == {"me.jpg"} | results | examples
    frequency, age = page.delete_cache
    assert frequency + age <= 1800
    delete_files_created_by_app(page, age)
    assert files() == {"me.jpg"} | results | examples
    delete_files_created_by_app(page, -1)
    assert files() == examples


def test_everything_is_gone_at_the_end(monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "theirs")
    with pytest.raises(RuntimeError), temporary_files() as folder:
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
        (folder / "me.jpg").write_bytes(b"x")
        raise RuntimeError
    assert not folder.exists() and os.environ["GRADIO_TEMP_DIR"] == "theirs"
