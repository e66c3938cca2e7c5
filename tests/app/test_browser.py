"""The page of `halfface app` in a real browser."""

import base64
import re
import zipfile
from pathlib import Path

import PIL.Image
import pytest

from halfface_pipeline.cli.main import main
from tests.browser import DESKTOP, PHONE, SECONDS

for package in ("gradio", "playwright"):
    pytest.importorskip(package, reason=f"{package} is not installed: the extra `browser` brings it")
pytestmark = [pytest.mark.slow, pytest.mark.browser]

from playwright.sync_api import expect  # noqa: E402


@pytest.fixture
def visit(open_tab, page):
    """Opens the page and waits for it."""

    def make(viewport=DESKTOP, scheme="light"):
        tab = open_tab(page.local_url, viewport, scheme)
        expect(tab.locator("#photo")).to_be_visible(timeout=SECONDS)
        return tab

    return make


def enter(tab, **numbers):
    """Types numbers into settings; what is typed while gradio still draws a setting is lost."""
    for place in numbers:
        expect(tab.locator(f"#{place} input[type=number]")).to_be_visible(timeout=SECONDS)
    tab.wait_for_timeout(500)
    for place, number in numbers.items():
        box = tab.locator(f"#{place} input[type=number]")
        box.fill(number)
        box.press("Tab")
        expect(box).to_have_value(number)


def test_upload_frame_complete_download_redraw(visit, photo, handlers, tmp_path):
    tab = visit(PHONE, "dark")
    tab.locator("#photo input[type=file]").set_input_files(photo)
    frame = tab.locator("#frame img")
    expect(frame).to_be_visible(timeout=SECONDS)
    before = frame.get_attribute("src")
    tab.get_by_text("Zoom, position and turn").click()
    enter(tab, zoom="1", across="0", down="0", turn="0")
    tab.locator("#zoom input[type=range]").focus()
    for _ in range(10):
        tab.keyboard.press("ArrowRight")
    expect(tab.locator("#zoom input[type=number]")).to_have_value("1.1")
    expect(frame).not_to_have_attribute("src", before, timeout=SECONDS)
    tab.get_by_text("Sampler, steps and seed").click()
    enter(tab, number="3", steps="4", seed="11")
    tab.locator("#complete").focus()
    tab.keyboard.press("Enter")
    faces = tab.locator("#faces img")
    expect(faces).to_have_count(3, timeout=SECONDS)
    expect(tab.locator("#status")).to_contain_text("3 of 3 completions", timeout=SECONDS)
    expect(tab.locator("#stop")).to_be_hidden(timeout=SECONDS)
    expect(tab.locator("#status")).to_have_attribute("role", "status")
    expect(tab.locator("#chosen img")).to_have_attribute("src", re.compile("halfface-seed-11.png"), timeout=SECONDS)
    tab.locator("#faces button").nth(1).focus()
    tab.keyboard.press("Enter")
    expect(tab.locator("#chosen img")).to_have_attribute("src", re.compile("halfface-seed-12.png"), timeout=SECONDS)

    expect(tab.locator("#pasted img")).to_have_attribute("src", re.compile("photo-seed-12.png"), timeout=SECONDS)
    with tab.expect_download() as download:
        tab.locator("#pasted a.download-link").click()
    download.value.save_as(tmp_path / "photo.png")
    with tab.expect_download() as download:
        tab.locator("#chosen a.download-link").click()
    download.value.save_as(tmp_path / "face.png")
    with tab.expect_download() as download:
        tab.locator("#download").click()
    download.value.save_as(tmp_path / "all.zip")
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]

    with PIL.Image.open(tmp_path / "face.png") as face:
        told = face.text
        assert told["Comment"] == "AI-generated, hidden half invented"
        assert (told["model"], told["sampler"], told["steps"], told["seed"]) == ("tiny", "dpm++", "4", "12")
    handlers.pipe.save_pretrained(tmp_path / "model")
    again = ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "again")]
    assert main(["redraw", str(tmp_path / "face.png"), *again]) == 0
    assert (tmp_path / "again" / "face.png").read_bytes() == (tmp_path / "face.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "all.zip") as zipped:
        assert zipped.read("halfface-seed-12.png") == (tmp_path / "face.png").read_bytes()
        assert zipped.read("photo-seed-12.png") == (tmp_path / "photo.png").read_bytes()
        assert len(zipped.namelist()) == 6


def test_an_example_a_tap_and_stop(visit):
    tab = visit(DESKTOP, "light")
    tab.get_by_role("button", name="Take example face 2").click()
    expect(tab.locator("#frame img")).to_be_visible(timeout=SECONDS)
    before = tab.locator("#frame img").get_attribute("src")
    tab.get_by_text("Zoom, position and turn").click()
    enter(tab, zoom="3", across="0.5", down="0")
    expect(tab.locator("#frame img")).not_to_have_attribute("src", before, timeout=SECONDS)
    while before != (before := tab.locator("#frame img").get_attribute("src")):  # until all three values are drawn
        tab.wait_for_timeout(2000)
    box = tab.locator("#frame img").bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + 0.8 * box["height"])
    expect(tab.locator("#down input[type=number]")).not_to_have_value("0", timeout=SECONDS)
    assert 0.5 < float(tab.locator("#down input[type=number]").input_value()) < 0.7
    assert abs(float(tab.locator("#across input[type=number]").input_value())) < 0.1
    tab.get_by_text("Sampler, steps and seed").click()
    enter(tab, steps="250", number="16")
    tab.locator("#complete").click()
    expect(tab.locator("#status .progress-level")).to_be_visible(timeout=SECONDS)
    tab.locator("#stop").click()
    expect(tab.locator("#status")).to_contain_text("Stopped.", timeout=SECONDS)
    expect(tab.locator("#stop")).to_be_hidden(timeout=SECONDS)
    tab.wait_for_timeout(1000)
    assert tab.locator("#faces img").count() < 16
    expect(tab.locator("#status")).to_contain_text("Stopped.")


def test_a_dropped_photo_and_the_camera(visit, photo):
    tab = visit(PHONE, "light")
    dropped = tab.evaluate_handle(
        """bytes => { const all = new DataTransfer(), data = Uint8Array.from(atob(bytes), c => c.charCodeAt(0));
        all.items.add(new File([data], "me.jpg", {type: "image/jpeg"})); return all }""",
        base64.b64encode(photo.read_bytes()).decode(),
    )
    tab.locator("#photo").get_by_label("Drop an image file").dispatch_event("drop", {"dataTransfer": dropped})
    frame = tab.locator("#frame img")
    expect(frame).to_be_visible(timeout=SECONDS)
    before = frame.get_attribute("src")
    tab.locator("#again").click()
    expect(frame).to_be_hidden(timeout=SECONDS)
    tab.get_by_label("Capture from camera").click()
    tab.get_by_text("Click to Access Webcam").click()
    tab.wait_for_function("document.querySelector('#photo video')?.currentTime > 0")  # no picture to take before
    tab.get_by_label("capture photo").click()
    expect(frame).to_be_visible(timeout=SECONDS)
    expect(frame).not_to_have_attribute("src", before, timeout=SECONDS)


def test_a_photo_that_is_too_large(visit, tmp_path):
    tab = visit(DESKTOP, "light")
    (tmp_path / "large.jpg").write_bytes(bytes(600_000))
    tab.locator("#photo input[type=file]").set_input_files(tmp_path / "large.jpg")
    expect(tab.get_by_text("exceed the maximum allowed size of 512.0 Kb")).to_be_visible(timeout=SECONDS)


def test_a_file_that_is_no_photo(visit, tmp_path, folder):
    tab = visit(DESKTOP, "dark")
    (tmp_path / "page.png").write_text("<html><script>document.title = 'mine'</script></html>")
    tab.locator("#photo input[type=file]").set_input_files(tmp_path / "page.png")
    toast = tab.get_by_text("The file cannot be read.")
    expect(toast).to_be_visible(timeout=SECONDS)
    assert str(folder) not in tab.inner_text("body")
    expect(tab.locator("#frame")).to_be_hidden()
    expect(tab.locator("#photo img")).to_have_count(0, timeout=SECONDS)
    expect(tab.locator("#complete")).to_be_hidden()


@pytest.mark.parametrize("size", [PHONE, {"width": 1280, "height": 800}])
def test_the_button_is_in_sight_and_the_face_framed(visit, tmp_path, size):
    selfie = PIL.Image.open(Path(__file__).parents[1] / "photo" / "selfie.jpg")
    scene = PIL.Image.new("RGB", (900, 700), "grey")
    scene.paste(selfie, (0, 0))
    scene.paste(selfie.resize((318, 474)), (500, 100))
    scene.save(tmp_path / "two.jpg")
    tab = visit(size)
    tab.locator("#photo input[type=file]").set_input_files(tmp_path / "two.jpg")
    expect(tab.locator("#frame img")).to_be_visible(timeout=SECONDS)
    expect(tab.locator("#complete")).to_be_in_viewport(ratio=1)
    assert tab.evaluate("scrollY") == 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= size["width"]
    tab.get_by_text("Zoom, position and turn").click()
    across, turn = (tab.locator(f"#{name} input[type=number]") for name in ("across", "turn"))
    assert float(turn.input_value()) == pytest.approx(-9, abs=1)
    assert float(across.input_value()) < 0
    tab.locator("#face input").click()
    tab.get_by_role("option").nth(1).click()
    expect(across).to_have_value(re.compile(r"^0\.[3-6]"), timeout=SECONDS)


def test_light_and_dark_and_the_notice(visit):
    brightness = {}
    for scheme in ("light", "dark"):
        tab = visit(PHONE, scheme)
        colour = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness[scheme] = sum(map(int, re.findall(r"\d+", colour)[:3]))
        assert "half is invented" in tab.inner_text("body") and "identifies nobody" in tab.inner_text("body")
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert brightness["dark"] < 150 < 600 < brightness["light"]
