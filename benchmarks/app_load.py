"""`halfface app` under load: simultaneous visitors and uploads that are no photos; prints JSON.

python benchmarks/app_load.py [--model RUN] [--sessions 20] [--malformed 200] [--out docs/results/app_load.json]

Without --model a tiny untrained one is used: what is measured is the server. Needs the extra `app`.
"""

import argparse
import contextlib
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import PIL.Image
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from halfface_pipeline import HalfFaceInpaintPipeline
from halfface_pipeline.config.schema import ModelConfig, NoiseConfig
from halfface_pipeline.data.procedural import faces
from halfface_pipeline.diffusion.networks import build_network
from halfface_pipeline.diffusion.samplers import training_scheduler

CLEAR = ("The file is empty", "The file is not a picture", "The picture is too large", "The picture is damaged")


def encoded(kind: str, seed: int = 0) -> bytes:
    """A drawn face as the bytes of a picture file."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(faces(1, 240, 200, seed=seed)[0][0]).save(buffer, kind)
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A small PNG that unpacks to side x side pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    head = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _cut(kind: str, luck: random.Random) -> bytes:
    data = encoded(kind, luck.randrange(1000))
    return data[: int(len(data) * luck.uniform(0.3, 0.9))]


SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'
KINDS: dict[str, Callable[[random.Random], bytes]] = {
    "empty.jpg": lambda luck: b"",
    "noise.jpg": lambda luck: luck.randbytes(4000),
    "noise_with_head.png": lambda luck: b"\x89PNG\r\n\x1a\n" + luck.randbytes(4000),
    "noise_with_head.jpg": lambda luck: b"\xff\xd8\xff\xe0" + luck.randbytes(4000),
    "cut.jpg": lambda luck: _cut("JPEG", luck),
    "cut.png": lambda luck: _cut("PNG", luck),
    "cut.webp": lambda luck: _cut("WEBP", luck),
    "bomb.png": lambda luck: bomb(20_000),
    "bomb_below_pillow's_limit.png": lambda luck: bomb(9_000),
    "page.html": lambda luck: b"<!doctype html><html><body><script>alert(1)</script></body></html>",
    "page.png": lambda luck: b"<!doctype html><html><body>no picture</body></html>",
    "drawing.svg": lambda luck: SVG,
    "drawing.png": lambda luck: SVG,
    "program.eps": lambda luck: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "document.pdf": lambda luck: b"%PDF-1.7\n" + luck.randbytes(500),
    "text.gif": lambda luck: b"GIF89a" + luck.randbytes(3),
}
"""Uploads that are no photos, by file name."""


def malformed(number: int) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of uploads that must all be refused, every kind in turn."""
    luck = random.Random(0)
    for index in range(number):
        name = list(KINDS)[index % len(KINDS)]
        yield name, KINDS[name](luck)


def main() -> None:
    """Warms the server up, then measures its memory before and after all visits and uploads."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", help="run folder (default: a tiny untrained model)")
    parser.add_argument("--sessions", type=int, default=20, help="simultaneous visitors (default 20)")
    parser.add_argument("--malformed", type=int, default=200, help="uploads that are no photos (default 200)")
    parser.add_argument("--out", type=Path, help="file for the result, beside standard output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or _tiny_model(Path(folder, "model"))
        with _server(model, Path(folder)) as (address, pid, kept):
            result = measure(address, pid, kept, options.sessions, options.malformed, Path(folder))
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


def measure(address: str, pid: int, kept: str, sessions: int, number: int, folder: Path) -> dict[str, Any]:
    """Warms a server up, then takes its memory before and after all visits and uploads.

    Args:
        address: Of the page.
        pid: Of the server's process.
        kept: Folder the server keeps uploads in, which no answer may name.
        sessions: Simultaneous visitors.
        number: Uploads that are no photos.
        folder: For the files of this client.

    Returns:
        What was answered, and resident memory in MB.
    """
    files = []
    for index, (name, data) in enumerate(malformed(number)):
        files.append(folder / str(index) / name)
        files[-1].parent.mkdir()
        files[-1].write_bytes(data)
    photo = folder / "photo.jpg"
    photo.write_bytes(encoded("JPEG"))
    _visits(address, photo, sessions, folder)
    _uploads(address, files[: min(len(KINDS) * 2, number // 2)], kept, folder)
    before = _resident_mb(pid)
    visits = _visits(address, photo, sessions, folder)
    answers, unclear = _uploads(address, files, kept, folder)
    visits_after = _visits(address, photo, sessions, folder)
    after = _resident_mb(pid)
    return {
        "benchmark": "app_load",
        "sessions": sessions,
        "answered": [sum(error is None for error, _ in each) for each in (visits, visits_after)],
        "errors": sorted({error for error, _ in visits + visits_after if error}),
        "seconds_longest_visit": round(max(seconds for _, seconds in visits), 1),
        "malformed": number,
        "refused": dict(answers),
        "unclear_answers": unclear,
        "rss_mb_before": round(before),
        "rss_mb_after": round(after),
        "growth_percent": round(100 * (after / before - 1), 1),
        "cpus": len(os.sched_getaffinity(0)),
    }


def _visits(address: str, photo: Path, sessions: int, folder: Path) -> list[tuple[str | None, float]]:
    """One visitor a thread, all at once: the error each got, and the seconds until the last picture."""
    results: list[tuple[str | None, float]] = []

    def visit(seed: int) -> None:
        start, error = time.monotonic(), None
        try:
            client = Client(address, verbose=False, download_files=str(folder / "downloads"))
            faces = client.predict(handle_file(photo), 1, 0, 0, "dpm++", 5, seed, 2, api_name="/complete")[0]
            if len(faces) != 2:
                error = f"{len(faces)} of 2 completions"
        except Exception as caught:
            error = f"{type(caught).__name__}: {caught}"
        results.append((error, time.monotonic() - start))

    threads = [threading.Thread(target=visit, args=(seed,)) for seed in range(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def _uploads(address: str, files: list[Path], kept: str, folder: Path) -> tuple[Counter[str], list[str]]:
    """What the server says to files that are no photos, and the answers that are not clear or name its folder."""
    client = Client(address, verbose=False, download_files=str(folder / "downloads"))
    answers: Counter[str] = Counter()
    unclear = []
    for file in files:
        try:
            client.predict(handle_file(file), 1, 0, 0, "dpm++", 5, 0, 1, api_name="/complete")
            answer = "accepted"
        except AppError as error:
            answer = str(error)
        answers[answer] += 1
        if not answer.startswith(CLEAR) or kept in answer:
            unclear.append(f"{file.name}: {answer}")
    return answers, unclear


@contextlib.contextmanager
def _server(model: str, folder: Path) -> Iterator[tuple[str, int, str]]:
    """A server in a process of its own: its address, process id, and the folder it keeps uploads in."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = folder / "server"
    place.mkdir()
    words = ["app", "--model", model, "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "halfface_pipeline.cli.main", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(place)},
    )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().split()[0]
        yield address, process.pid, str(place)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    left = list(place.iterdir())
    if left:
        raise RuntimeError(f"the server left {left}")


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def _tiny_model(folder: Path) -> str:
    sizes = ModelConfig(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=8)
    scheduler = training_scheduler(NoiseConfig(), "epsilon")
    HalfFaceInpaintPipeline(build_network(sizes, 48, 40), scheduler, 48, 40).save_pretrained(folder)
    return str(folder)


if __name__ == "__main__":
    main()
