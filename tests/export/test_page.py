"""The static page in a real browser, against the pipeline."""

import base64
import copy
import io
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from halfface_pipeline.cli.main import main
from halfface_pipeline.data.procedural import faces
from halfface_pipeline.diffusion.halves import known_halves
from halfface_pipeline.diffusion.samplers import FEW_STEPS, make_sampler
from halfface_pipeline.inference.load import default_model, load_pipeline
from halfface_pipeline.inference.photos import frame_photo
from halfface_pipeline.inference.png_metadata import fingerprint, read_png
from halfface_pipeline.remote_code.image_io import resize_to
from tests.browser import DESKTOP, PHONE, SECONDS
from tests.export.conftest import serving

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(600)]
LARGEST_DIFFERENCE = 2
"""Levels of 255 by which a page's completion may differ from the pipeline's."""


@pytest.fixture
def visit(open_tab, server):
    """Opens the page and waits for the model."""
    from playwright.sync_api import expect

    def make(viewport=DESKTOP, scheme="light", script="", status="Ready", address=server.address):
        tab = open_tab(address, viewport, scheme, script)
        expect(tab.locator("#status")).to_contain_text(status, timeout=SECONDS)
        return tab

    return make


def drawn_face(height=22, width=20):
    """A procedural face."""
    return PIL.Image.fromarray(faces(1, height, width)[0][0])


def as_png(image):
    """A file to upload."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return {"name": "me.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


def complete(tab, number, seed=0):
    """Completes the photo and waits for the end."""
    from playwright.sync_api import expect

    tab.fill("#number", str(number))
    tab.fill("#seed", str(seed))
    tab.click("#complete")
    expect(tab.locator("#status")).to_contain_text(f"{number} of {number} completions in", timeout=SECONDS)


def save(tab, button, file):
    """What a button downloads."""
    with tab.expect_download() as download:
        tab.click(button)
    download.value.save_as(file)
    return file


def until(true):
    """Waits until a function returns something true; the page forbids the strings of `wait_for_function`."""
    end = time.monotonic() + SECONDS / 1000
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def expected(pipe, seeds):
    """The pipeline's completions of the drawn face."""
    sampled = copy.copy(pipe)
    sampled.scheduler = make_sampler("dpm++", pipe.scheduler)
    half = known_halves(np.array(drawn_face())[None], "left")[0]
    return sampled(half, len(seeds), 4, [torch.Generator().manual_seed(seed) for seed in seeds]).images


def difference(a, b):
    """Largest difference of two pictures in levels of 255."""
    return int(np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max())


def test_the_same_seed_gives_the_pipelines_picture_and_a_png_that_can_be_redrawn(visit, pipe, tmp_path):
    face, seeds = drawn_face(), [4294967279 - 15 + k for k in range(3)]
    tab = visit()
    tab.set_input_files("#file", as_png(face))
    complete(tab, 3, seeds[0])
    with zipfile.ZipFile(save(tab, "#download-all", tmp_path / "all.zip")) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"halfface-seed-{seed}.png" for seed in seeds]
        archive.extractall(tmp_path)
    hidden = []
    for seed, want in zip(seeds, expected(pipe, seeds), strict=True):
        with PIL.Image.open(tmp_path / f"halfface-seed-{seed}.png") as got:
            assert np.array_equal(np.array(got.convert("RGB"))[:, 10:], np.array(face)[:, 10:])
            assert difference(got.convert("RGB"), want) <= LARGEST_DIFFERENCE
            hidden.append(np.array(got.convert("RGB"))[:, :10])
    assert difference(hidden[0], hidden[1]) > 50 and np.std(hidden[0]) > 20

    tab.locator("#faces button").nth(1).click()
    chosen = save(tab, "#download", tmp_path / "chosen.png")
    assert chosen.read_bytes() == (tmp_path / f"halfface-seed-{seeds[1]}.png").read_bytes()
    facts = read_png(chosen)
    assert facts["Comment"] == "AI-generated, hidden half invented"
    assert (facts["model"], facts["sampler"], facts["steps"], facts["seed"]) == ("tiny", "dpm++", 4, seeds[1])
    assert (facts["weights"], facts["runtime"]) == (fingerprint(pipe.unet), "onnxruntime-web 1.30.0 wasm, 2 × 1")
    with PIL.Image.open(chosen) as picture:
        assert "compositeWithTrainedAlgorithmicMedia" in picture.text["XML:com.adobe.xmp"]
    pipe.save_pretrained(tmp_path / "model")
    main(["redraw", str(chosen), "--model", str(tmp_path / "model"), "--out", str(tmp_path / "again")])
    with PIL.Image.open(chosen) as got, PIL.Image.open(tmp_path / "again" / "chosen.png") as again:
        assert difference(got.convert("RGB"), again.convert("RGB")) <= LARGEST_DIFFERENCE


def test_the_packaged_model_completes_a_photo_as_the_pipeline_does(visit, make_page, tmp_path):
    pipe = load_pipeline(default_model()).to("cpu")
    photo = PIL.Image.open(Path(__file__).parents[1] / "photo" / "selfie.jpg").convert("RGB")
    face = frame_photo(photo, pipe.config).frames[0]
    with serving(make_page(pipe, "packaged", FEW_STEPS)) as server:
        tab = visit(address=server.address)
        tab.set_input_files("#file", as_png(face))
        complete(tab, 8)
        with zipfile.ZipFile(save(tab, "#download-all", tmp_path / "all.zip")) as archive:
            got = [PIL.Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in archive.namelist()]
    pipe.scheduler = make_sampler("dpm++", pipe.scheduler)
    half = known_halves(np.array(face)[None], pipe.config.hidden_half)[0]
    seeds = [torch.Generator().manual_seed(seed) for seed in range(8)]
    want = pipe(half, 8, FEW_STEPS, seeds).images
    assert len(got) == 8 and max(map(difference, got, want)) <= LARGEST_DIFFERENCE
    assert difference(got[0], got[1]) > 20


def test_a_larger_photo_is_resized_as_the_pipeline_does(visit, tmp_path):
    photo = PIL.Image.new("RGB", (260, 220), "teal")
    photo.paste(drawn_face(220, 200), (30, 0))
    tab = visit()
    tab.set_input_files("#file", as_png(photo))
    complete(tab, 1)
    with PIL.Image.open(save(tab, "#download", tmp_path / "face.png")) as got:
        known = np.array(got.convert("RGB"))[:, 10:]
    assert difference(known, np.array(resize_to(photo, 22, 20))[:, 10:]) <= 2


def test_nothing_leaves_the_page_and_it_works_without_a_network(visit, server, other_server):
    tab = visit()
    tab.set_input_files("#file", as_png(drawn_face()))
    asked = "url => fetch(url).then(() => 'answered', () => 'refused')"
    places = [tab, *tab.workers]
    assert [place.evaluate(asked, other_server.address) for place in places] == ["refused"] * 3
    picture = "url => Object.assign(new Image(), {src: url}).decode().catch(() => 'refused')"
    assert tab.evaluate(picture, other_server.address + "a.png") == "refused"
    assert other_server.requested == []
    before = len(server.requested)
    tab.context.set_offline(True)
    tab.click("#example")
    complete(tab, 2)
    assert len(server.requested) == before


def test_threads_where_the_headers_allow_them(visit, isolated_server, pipe, tmp_path):
    four_cores = "Object.defineProperty(navigator, 'hardwareConcurrency', {get: () => 4})"
    tab = visit(address=isolated_server.address, script=four_cores)
    assert tab.get_attribute("#status", "data-runs") == "wasm, 2 × 2"
    tab.set_input_files("#file", as_png(drawn_face()))
    complete(tab, 1, 5)
    with PIL.Image.open(save(tab, "#download", tmp_path / "face.png")) as got:
        assert difference(got.convert("RGB"), expected(pipe, [5])[0]) <= LARGEST_DIFFERENCE


REAL_ADAPTER = "Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', {get: () => false})"
SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")


def test_webgpu_where_there_is_one(open_browser, server, pipe, tmp_path):
    from playwright.sync_api import expect

    tab = open_browser(*SOFTWARE_GPU).new_page()
    tab.add_init_script(f"if (globalThis.GPUAdapterInfo) {REAL_ADAPTER}")
    tab.set_default_timeout(SECONDS)
    tab.goto(server.address)
    if not tab.evaluate("navigator.gpu?.requestAdapter().then(Boolean)"):
        pytest.skip("this Chromium has no WebGPU, not even in software")
    expect(tab.locator("#status")).to_contain_text("Ready", timeout=2 * SECONDS)
    assert tab.get_attribute("#status", "data-runs") == "webgpu, 1 × 1"
    tab.set_input_files("#file", as_png(drawn_face()))
    complete(tab, 1, 5)
    with PIL.Image.open(save(tab, "#download", tmp_path / "face.png")) as got:
        assert difference(got.convert("RGB"), expected(pipe, [5])[0]) <= LARGEST_DIFFERENCE


def large_png():
    buffer = io.BytesIO()
    PIL.Image.new("1", (10_000, 10_000)).save(buffer, "PNG")
    return buffer.getvalue()


BAD_FILES = {
    "empty": (lambda: b"", "The file is empty."),
    "svg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20"></svg>', "not a picture"),
    "html": (lambda: b"<html><script>document.title = 'mine'</script>" + bytes(99), "not a picture"),
    "huge": (large_png, "The picture is too large: at most 60 million pixels are read."),
    "cut short": (lambda: as_png(drawn_face())["buffer"][:60], "The picture is damaged or cut short."),
}


def test_a_file_that_is_no_photo_gives_one_clear_line(visit):
    from playwright.sync_api import expect

    tab = visit()
    for name, (content, message) in BAD_FILES.items():
        file = {"name": f"{name}.jpg", "mimeType": "image/jpeg", "buffer": content()}
        tab.set_input_files("#file", file)
        expect(tab.locator("#problem")).to_contain_text(message)
        expect(tab.locator("#complete")).to_be_disabled()
    tab.set_input_files("#file", as_png(drawn_face()))
    expect(tab.locator("#problem")).to_be_empty()
    expect(tab.locator("#complete")).to_be_enabled()
    assert tab.title() == "Half faces"


def test_a_browser_without_webassembly_is_told_so(visit):
    tab = visit(script="delete globalThis.WebAssembly", status="has no WebAssembly")
    assert tab.locator("#complete").is_disabled()


def test_a_page_without_its_network_says_so(visit, page_folder):
    hidden = (page_folder / "network.onnx").rename(page_folder / "elsewhere")
    try:
        visit(status="network.onnx could not be loaded (404)")
    finally:
        hidden.rename(page_folder / "network.onnx")


def test_keyboard_phone_dark_and_stop(visit):
    from playwright.sync_api import expect

    brightness = {}
    for scheme in ("light", "dark"):
        tab = visit(PHONE, scheme)
        colour = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        brightness[scheme] = sum(map(int, re.findall(r"\d+", colour)[:3]))
    assert brightness["dark"] < 150 < 600 < brightness["light"]
    assert "half is invented" in tab.inner_text("body") and "identifies nobody" in tab.inner_text("body")
    tab.click("#example")
    expect(tab.locator("#complete")).to_be_enabled()
    pixels = "document.querySelector('#photo').toDataURL()"
    tab.locator("#frame").focus()
    for keys in (["+"] * 5, ["ArrowRight"] * 3, ["ArrowUp"] * 3):
        before = tab.evaluate(pixels)
        for key in keys:
            tab.keyboard.press(key)
        assert tab.evaluate(pixels) != before
    assert tab.input_value("#zoom") == "1.6"
    tab.locator("#number").fill("16")
    tab.locator("#complete").focus()
    tab.keyboard.press("Enter")
    tab.locator("#stop").click()
    expect(tab.locator("#status")).to_contain_text(re.compile(r"Stopped after \d+ of 16"))
    tab.locator("#number").fill("17")
    tab.locator("#complete").click()
    expect(tab.locator("#status")).to_have_text("Number must be a whole number from 1 to 16.")
    complete(tab, 2)
    tab.locator("#faces button").nth(1).focus()
    tab.keyboard.press("Enter")
    expect(tab.locator("#chosen-seed")).to_have_text("(seed 1)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_photo_is_dropped_pasted_dragged_and_taken_with_the_camera(visit):
    from playwright.sync_api import expect

    tab = visit()
    transfer = tab.evaluate_handle(
        """bytes => { const all = new DataTransfer(), data = Uint8Array.from(atob(bytes), c => c.charCodeAt(0));
        all.items.add(new File([data], "me.png", {type: "image/png"})); return all }""",
        base64.b64encode(as_png(drawn_face(88, 200))["buffer"]).decode(),
    )
    tab.locator("#frame").dispatch_event("drop", {"dataTransfer": transfer})
    expect(tab.locator("#complete")).to_be_enabled()
    pixels = "document.querySelector('#photo').toDataURL()"
    dropped = tab.evaluate(pixels)
    box = tab.locator("#frame").bounding_box()
    tab.mouse.move(box["x"] + 100, box["y"] + 100)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 60, box["y"] + 100)
    tab.mouse.up()
    assert tab.evaluate(pixels) != dropped
    tab.evaluate("all => dispatchEvent(new ClipboardEvent('paste', {clipboardData: all}))", transfer)
    until(lambda: tab.evaluate(pixels) == dropped)
    tab.click("#open-camera")
    until(lambda: tab.evaluate("document.querySelector('#camera video').currentTime > 0"))
    tab.click("#shoot")
    expect(tab.locator("#camera")).to_be_hidden()
    assert tab.evaluate(pixels) != dropped
    assert tab.evaluate("document.querySelector('#camera video').srcObject") is None
