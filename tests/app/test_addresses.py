"""What the folder of uploads is called outside: `halfface_pipeline.app.addresses`."""

import asyncio
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from halfface_pipeline.app.addresses import OUTSIDE, FolderRenamed

FOLDER = Path("/home/jürgen m/halfface-1")


def ask(path, parts, answer, kind):
    """What an app inside sees of a request with this path and body, and what is seen of its answer outside."""
    seen, sent, waiting = {}, [], list(parts)

    async def app(scope, receive, send):
        seen["path"], seen["body"], more = scope["path"], b"", True
        while more:
            message = await receive()
            seen["body"], more = seen["body"] + message["body"], message["more_body"]
        headers = [(b"content-type", kind), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def receive():
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": [(b"content-type", b"application/json; charset=utf-8")]}
    asyncio.run(FolderRenamed(app, FOLDER)(scope, receive, send))
    return seen, dict(sent[0]["headers"]), sent[1]["body"]


@pytest.mark.parametrize(
    "spelled", [str(FOLDER), json.dumps(str(FOLDER))[1:-1], quote(str(FOLDER))], ids=["plain", "JSON", "address"]
)
def test_every_spelling_of_the_folder_is_renamed_in_text_and_its_length_not_told(spelled):
    kinds = (b"application/json", b"text/html; charset=utf-8", b"text/event-stream")
    for kind in kinds:
        _, headers, body = ask("/config", [b""], f'"{spelled}/a.png"'.encode(), kind)
        assert body.decode() == f'"{OUTSIDE}/a.png"'
        assert b"content-length" not in headers
    _, headers, body = ask("/config", [b""], spelled.encode(), b"image/png")
    assert body.decode() == spelled and b"content-length" in headers


def test_the_other_name_means_the_folder_where_it_begins_a_path_also_cut_in_two():
    asked = json.dumps({"path": f"{OUTSIDE}/a{OUTSIDE}", "word": OUTSIDE}).encode()
    seen, _, _ = ask(f"/file={OUTSIDE}/a.png", [asked[:15], asked[15:]], b"", b"image/png")
    assert seen["path"] == f"/file={FOLDER}/a.png"
    assert json.loads(seen["body"]) == {"path": f"{FOLDER}/a{OUTSIDE}", "word": OUTSIDE}
