"""Addresses of files on the page of `halfface app`: no visitor learns where on this machine they lie."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

OUTSIDE = "/halfface-files"
"""What the folder of uploads and pictures is called in every answer."""
TEXT = (b"application/json", b"text/html", b"text/event-stream", b"text/plain")
"""Content types in which paths can stand; those of pictures and archives go through as they are."""


class FolderRenamed:
    """ASGI middleware: `OUTSIDE` in what is asked becomes the folder, the folder in what is answered `OUTSIDE`.

    gradio names files by their absolute path, which tells the system's temporary folder and often a user's name.

    Args:
        app: What is wrapped.
        folder: The folder, an absolute path.
    """

    def __init__(self, app: Any, folder: Path) -> None:
        self.app, self.folder = app, str(folder)
        in_json = json.dumps(self.folder)[1:-1]
        # JSON keeps other letters as they are or escapes them, addresses quote them.
        self.spellings = {spelling.encode() for spelling in (in_json, self.folder, quote(self.folder))}
        self.asked, self.meant = f"{OUTSIDE}/".encode(), f"{in_json}/".encode()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Passes one request on and its answer back."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_text = False

        async def inward() -> dict[str, Any]:
            message: dict[str, Any] = await receive()
            if _is_text(scope["headers"]) and message["type"] == "http.request":
                body = message.get("body", b"")
                while message.get("more_body"):  # a name could be cut in two by the network
                    message = await receive()
                    body += message.get("body", b"")
                return {"type": "http.request", "body": body.replace(self.asked, self.meant), "more_body": False}
            return message

        async def outward(message: dict[str, Any]) -> None:
            nonlocal is_text
            if message["type"] == "http.response.start" and _is_text(message["headers"]):
                is_text = True
                kept = [pair for pair in message["headers"] if pair[0] != b"content-length"]
                message = {**message, "headers": kept}
            elif message["type"] == "http.response.body" and is_text:
                body = message.get("body", b"")
                for spelling in self.spellings:
                    body = body.replace(spelling, OUTSIDE.encode())
                message = {**message, "body": body}
            await send(message)

        path = scope["path"].replace(f"{OUTSIDE}/", f"{self.folder}/", 1)
        await self.app({**scope, "path": path}, inward, outward)


def _is_text(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"content-type" and value.startswith(TEXT) for name, value in headers)
