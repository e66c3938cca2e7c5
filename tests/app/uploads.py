"""Uploads that are not photos, by file name."""

import io
import random
import zlib

import PIL.Image

from halfface_pipeline.data.procedural import faces

REFUSALS = ("The file cannot be read", "The picture is too large")


def _bomb(side):
    """A small PNG that unpacks to side x side pixels."""

    def chunk(name, data):
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    head = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 + (side + 7) // 8)) for _ in range(side)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _cut(kind):
    buffer = io.BytesIO()
    PIL.Image.fromarray(faces(1, 240, 200)[0][0]).save(buffer, kind)
    return buffer.getvalue()[: len(buffer.getvalue()) // 2]


def malformed():
    """Bytes by file name; each must be refused."""
    noise = random.Random(0).randbytes(4000)
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'
    html = b"<!doctype html><html><body><script>alert(1)</script></body></html>"
    return {
        "empty.jpg": b"",
        "noise.jpg": noise,
        "noise_with_head.png": b"\x89PNG\r\n\x1a\n" + noise,
        "noise_with_head.jpg": b"\xff\xd8\xff\xe0" + noise,
        "cut.jpg": _cut("JPEG"),
        "cut.png": _cut("PNG"),
        "cut.webp": _cut("WEBP"),
        "bomb.png": _bomb(20_000),
        "bomb_below_pillow's_limit.png": _bomb(9_000),
        "page.html": html,
        "page.png": html,
        "drawing.svg": svg,
        "drawing.png": svg,
        "program.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "document.pdf": b"%PDF-1.7\n" + noise[:500],
        "text.gif": b"GIF89a" + noise[:3],
    }
