"""Takes the pictures of docs/page.md: an exported page in Chromium, on a desktop and on a phone.

python docs/page/screenshots.py PAGE

PAGE is a folder of `halfface export --page`; needs the extra `browser` and Chromium.
"""

import argparse
import functools
import http.server
import io
import shutil
import threading
from pathlib import Path

import PIL.Image
from playwright.sync_api import Browser, expect, sync_playwright

SIZES = {"desktop": (1180, 900, "light"), "phone": (390, 844, "dark")}
SECONDS = 300_000.0


def take(browser: Browser, address: str, name: str) -> None:
    """One picture: the example completed, one completion chosen."""
    width, height, scheme = SIZES[name]
    tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    tab.goto(address)
    expect(tab.locator("#status")).to_contain_text("Ready", timeout=SECONDS)
    tab.click("#example")
    tab.click("#complete")
    expect(tab.locator("#status")).to_contain_text("8 of 8 completions in", timeout=SECONDS)
    tab.locator("#faces button").nth(5).click()
    tab.mouse.move(0, 0)
    picture = PIL.Image.open(io.BytesIO(tab.screenshot(full_page=True))).convert("RGB")
    file = Path(__file__).with_name(f"{name}.png")
    picture.quantize(256, PIL.Image.Quantize.MAXCOVERAGE, kmeans=2).save(file, optimize=True)
    print(f"{file}: {file.stat().st_size // 1024} KB")
    tab.close()


def main() -> None:
    """Serves the page and takes all pictures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("page")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=parser.parse_args().page)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name in SIZES:
            take(browser, f"http://127.0.0.1:{server.server_port}/", name)
        browser.close()


if __name__ == "__main__":
    main()
