"""Debian's Chromium, driven by Playwright, for the tests of pages; plugged in by tests/conftest.py."""

import os
import shutil

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1180, "height": 900}
SECONDS = 60_000.0
LOCAL = ("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:")


@pytest.fixture(scope="module")
def open_browser():
    """Opens Chromium with more arguments; skips where it or Playwright is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: extra `browser`")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed; $CHROMIUM can say where it is")
    opened = []
    with playwright.sync_playwright() as driver:

        def launch(*arguments):
            opened.append(driver.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *arguments]))
            return opened[-1]

        yield launch
        for browser in opened:
            browser.close()


@pytest.fixture(scope="module")
def browser(open_browser):
    """One browser for the tests of a module."""
    return open_browser()


@pytest.fixture
def open_tab(browser):
    """Opens an address as a new visitor; in the end no script has failed and no other host was asked."""
    contexts, asked, errors = [], [], []

    def make(address, viewport=DESKTOP, scheme="light", script=""):
        context = browser.new_context(viewport=viewport, color_scheme=scheme, permissions=["camera"])
        contexts.append(context)
        context.add_init_script(script)
        tab = context.new_page()
        tab.set_default_timeout(SECONDS)
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(address)
        return tab

    yield make
    for context in contexts:
        context.close()
    assert errors == []
    assert [url for url in asked if not url.startswith(LOCAL)] == []
