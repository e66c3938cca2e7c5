"""Measures an exported page in headless Chromium; prints JSON.

python docs/page/measure.py PAGE [--isolated]      PAGE is a folder of `halfface export --page`; needs the extra `browser`
"""

import argparse
import functools
import http.server
import json
import re
import shutil
import statistics
import threading
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

SECONDS = 600_000.0
HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


class Handler(http.server.SimpleHTTPRequestHandler):
    """A server of files that counts the bytes it sends."""

    isolated = False

    def end_headers(self) -> None:
        """Adds the headers that let WebAssembly use threads."""
        for name, value in HEADERS.items() if self.isolated else ():
            self.send_header(name, value)
        super().end_headers()

    def do_GET(self) -> None:  # noqa: N802, the name http.server calls
        """Sends a file."""
        file = Path(self.translate_path(self.path))
        self.server.sent += file.stat().st_size if file.is_file() else 0  # type: ignore[attr-defined]
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


class IsolatedHandler(Handler):
    """With threads."""

    isolated = True


def complete(tab: Page, number: int) -> float:
    """Seconds that a number of completions take, as the page says."""
    tab.fill("#number", str(number))
    tab.click("#complete")
    status = tab.locator("#status")
    expect(status).to_contain_text(f"{number} of {number} completions in", timeout=SECONDS)
    found = re.search(r"in ([\d.]+) s", status.inner_text())
    assert found is not None
    return float(found[1])


def megabytes(browser: Browser) -> float:
    """Resident memory of the process that shows the page and runs its workers."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    sizes = []
    for process in processes:
        status = Path(f"/proc/{process['id']}/status")
        if process["type"] == "renderer" and status.exists():
            found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text())
            sizes.append(int(found[1]) / 1024 if found else 0.0)
    return round(max(sizes), 1)


def main() -> None:
    """Load, complete 8 three times, then 50 runs of one completion."""
    parser = argparse.ArgumentParser()
    parser.add_argument("page")
    parser.add_argument("--isolated", action="store_true", help="send the headers for threads")
    options = parser.parse_args()
    handler = functools.partial(IsolatedHandler if options.isolated else Handler, directory=options.page)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.sent = 0  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page()
        started = time.monotonic()
        tab.goto(f"http://127.0.0.1:{server.server_port}/")
        expect(tab.locator("#status")).to_contain_text("Ready", timeout=SECONDS)
        ready = time.monotonic() - started
        result = {
            "runs": tab.get_attribute("#status", "data-runs"),
            "loaded_megabytes": round(server.sent / 1e6, 2),  # type: ignore[attr-defined]
            "seconds_to_ready": round(ready, 2),
        }
        tab.click("#example")
        times = [complete(tab, 8) for _ in range(3)]
        result |= {"seconds_for_8": times, "median_seconds_for_8": statistics.median(times)}
        memory = []
        for run in range(50):
            complete(tab, 1)
            if run % 10 == 9:
                memory.append(megabytes(browser))
        result["megabytes_after_10_to_50_runs"] = memory
        browser.close()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
