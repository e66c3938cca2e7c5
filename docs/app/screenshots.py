"""Takes the pictures of docs/app.md: the page in Chromium, light and dark, on a desktop and on a phone.

python docs/app/screenshots.py --model runs/demo          needs the extra `browser` and Chromium
"""

import argparse
import io
import shutil
from pathlib import Path

import PIL.Image
from playwright.sync_api import Browser, expect, sync_playwright

from halfface_pipeline.app import temporary_files
from halfface_pipeline.inference.load import load_pipeline
from halfface_pipeline.inference.speed import prepare_for_sampling

SIZES = {"desktop": (1180, 900), "phone": (390, 844)}
SECONDS = 300_000.0


def take(browser: Browser, address: str, size: str, scheme: str) -> None:
    """One picture: an example completed, one completion chosen."""
    width, height = SIZES[size]
    tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    tab.goto(address)
    tab.get_by_role("button", name="Take drawn face 1").click()
    expect(tab.locator("#frame img")).to_be_visible(timeout=SECONDS)
    in_work = (size, scheme) == ("desktop", "dark")  # this one while it draws, slowly enough to be seen
    if in_work:
        tab.get_by_text("Sampler, steps and seed").click()
        tab.locator("#steps input[type=number]").fill("50")
        tab.keyboard.press("Tab")
    tab.locator("#complete").click()
    if in_work:
        expect(tab.locator("#faces img")).to_have_count(5, timeout=SECONDS)
        tab.wait_for_timeout(500)
    else:
        expect(tab.locator("#status")).to_contain_text("8 of 8", timeout=SECONDS)
        tab.locator("#faces button").nth(6).click()
        tab.wait_for_timeout(900)
        tab.mouse.move(0, 0)
    picture = PIL.Image.open(io.BytesIO(tab.screenshot(full_page=True))).convert("RGB")
    file = Path(__file__).with_name(f"{size}-{scheme}.png")
    colours = picture.quantize(256, PIL.Image.Quantize.MAXCOVERAGE, kmeans=2)
    picture.quantize(palette=colours, dither=PIL.Image.Dither.FLOYDSTEINBERG).save(file, optimize=True)
    print(f"{file}: {file.stat().st_size // 1024} KB")
    tab.close()


def main() -> None:
    """Starts the page and takes all pictures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    model = parser.parse_args().model
    with temporary_files(), sync_playwright() as playwright:
        from halfface_pipeline.app.page import build_page, launch

        pipe = prepare_for_sampling(load_pipeline(model), "auto")
        page = build_page(pipe, Path(model).name)
        address = launch(page, "127.0.0.1", None, upload_mb=20)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for size in SIZES:
            for scheme in ("light", "dark"):
                take(browser, address, size, scheme)
        browser.close()
        page.close(verbose=False)


if __name__ == "__main__":
    main()
