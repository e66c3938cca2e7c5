"""Measures an exported page in headless Chromium; prints JSON.

python docs/page/measure.py PAGE [--isolated]

PAGE is a folder of `halfface export --page`; needs the extra `browser`.
"""

import argparse
import functools
import http.server
import json
import os
import re
import shutil
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

    def do_GET(self) -> None:
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


def renderer(browser: Browser) -> Path:
    """Folder in /proc of the process that shows the page and runs its workers: the largest renderer."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    folders = [Path(f"/proc/{process['id']}") for process in processes if process["type"] == "renderer"]
    return max(folders, key=megabytes)


def megabytes(process: Path) -> float:
    """Resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", (process / "status").read_text())
    return round(int(found[1]) / 1024, 1) if found else 0.0


def cpu_seconds(process: Path) -> float:
    """Time that the threads of a process have run so far."""
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Loads the page, completes 8 a few times, and then 1 many times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("page")
    parser.add_argument("--isolated", action="store_true", help="send the headers for threads")
    parser.add_argument("--rounds", type=int, default=3, help="of 8 completions (default 3)")
    parser.add_argument("--runs", type=int, default=50, help="of 1 completion, for the memory (default 50)")
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
        process, times, cpu = renderer(browser), [], []
        for _ in range(options.rounds):
            before = cpu_seconds(process)
            times.append(complete(tab, 8))
            cpu.append(round(cpu_seconds(process) - before, 2))
        result |= {"seconds_for_8": times, "cpu_seconds_for_8": cpu}
        memory = []
        for run in range(options.runs):
            complete(tab, 1)
            if run % 10 == 9:
                memory.append(megabytes(process))
        result["megabytes_after_each_10_runs"] = memory
        browser.close()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
