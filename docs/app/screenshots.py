"""Takes the pictures of docs/app.md: the page in Chromium, light and dark, on a desktop and on a phone.

python docs/app/screenshots.py          needs the extras `browser` and `photo`, and Chromium
"""

import argparse
import io
import shutil
from pathlib import Path

import PIL.Image
from playwright.sync_api import Browser, expect, sync_playwright

from halfface_pipeline.app import temporary_files
from halfface_pipeline.inference.complete import model_name
from halfface_pipeline.inference.load import default_model, load_pipeline, model_terms
from halfface_pipeline.inference.speed import prepare_for_sampling

SIZES = {"desktop": (1180, 900), "phone": (390, 844)}
SECONDS = 300_000.0
SELFIE = Path(__file__).parents[2] / "tests" / "photo" / "selfie.jpg"


def take(browser: Browser, address: str, size: str, scheme: str) -> None:
    """One picture: an example face (desktop) or a selfie (phone), completed (light) or before that (dark)."""
    width, height = SIZES[size]
    tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    tab.goto(address)
    if size == "phone":
        tab.locator("#photo input[type=file]").set_input_files(SELFIE)
    else:
        tab.get_by_role("button", name="Take example face 3").click()
    expect(tab.locator("#frame img")).to_be_visible(timeout=SECONDS)
    if size == "desktop":
        tab.get_by_text("Zoom, position and turn").click()
    if scheme == "light":
        tab.locator("#complete").click()
        expect(tab.locator("#status")).to_contain_text("8 of 8", timeout=SECONDS)
        tab.locator("#faces button").nth(6).click()
        tab.mouse.move(0, 0)
    tab.wait_for_timeout(2000)
    shot = tab.screenshot(full_page=scheme == "light" or size == "desktop")
    picture = PIL.Image.open(io.BytesIO(shot)).convert("RGB")
    file = Path(__file__).with_name(f"{size}-{scheme}.png")
    colours = picture.quantize(256, PIL.Image.Quantize.MAXCOVERAGE, kmeans=2)
    picture.quantize(palette=colours, dither=PIL.Image.Dither.FLOYDSTEINBERG).save(file, optimize=True)
    print(f"{file}: {file.stat().st_size // 1024} KB")
    tab.close()


def main() -> None:
    """Starts the page and takes all pictures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", help="default: the one that `halfface app` takes")
    model = parser.parse_args().model or default_model()
    with temporary_files(), sync_playwright() as playwright:
        from halfface_pipeline.app.page import build_page, launch

        pipe = prepare_for_sampling(load_pipeline(model), "auto")
        page = build_page(pipe, model_name(model), model_terms(model))
        address = launch(page, "127.0.0.1", None, upload_mb=20)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for size in SIZES:
            for scheme in ("light", "dark"):
                take(browser, address, size, scheme)
        browser.close()
        page.close(verbose=False)


if __name__ == "__main__":
    main()
