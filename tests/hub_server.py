"""A stand-in for the Hugging Face Hub on the loopback device: what huggingface_hub calls, for model repositories.

It keeps repositories in memory and stores large files by the LFS protocol.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results

WRITE_TOKEN, READ_TOKEN = "hf_standInWriteToken", "hf_standInReadToken"
LARGE = 50_000
"""Bytes from which a file is stored as LFS object."""


@dataclass
class Repo:
    """One repository: branches name commits, a commit maps paths to (content, is it an LFS object)."""

    private: bool = False
    branches: dict = field(default_factory=dict)
    commits: dict = field(default_factory=dict)
    messages: list = field(default_factory=list)

    def commit(self, branch, changes, message):
        files = {**self.commits.get(self.branches.get(branch), {}), **changes}
        files = {path: content for path, content in files.items() if content is not None}
        sha = hashlib.sha1(f"{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        self.messages.append(message)
        return sha

    def files(self, revision="main"):
        """Contents by path."""
        return {path: data for path, (data, _) in self.commits[self.branches.get(revision, revision)].items()}


class HubServer(ThreadingHTTPServer):
    """Serves from a thread of its own inside a `with`; `url` is what HF_ENDPOINT must be."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos, self.objects = {}, {}
        self.requests, self.lock = [], threading.RLock()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *args):
        self.shutdown()
        self.server_close()

    def seen(self, where):
        """How many requests so far match."""
        return sum(re.search(where, line) is not None for line in self.requests)


def git_oid(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def pointer(data):
    oid = hashlib.sha256(data).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n"


def card_faults(text):
    """What the Hub's validation would refuse in a card's metadata."""
    match = re.match(r"---\n(.*?)\n---\n", text, flags=re.DOTALL)
    try:
        data = yaml.safe_load(match[1]) if match else {}
        if not isinstance(data, dict):
            return ["metadata must be a mapping"]
        if not isinstance(data.get("tags", []), list):
            return ['"tags" must be an array']
        if data.get("model-index"):
            for result in model_index_to_eval_results(data["model-index"])[1]:
                if not isinstance(result.metric_value, int | float):
                    return [f"{result.metric_type}: its value is no number"]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        return [f"{type(error).__name__}: {error}"]
    return []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *args):
        pass

    # ------------------------------------------------------------------------------------------- the way in and out

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else self.read_chunks()
        self.path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {self.path}")
        with self.server.lock:
            self.route()

    do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815 -- names of http.server

    def read_chunks(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def say(self, status, content=b"", headers=()):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data)), **dict(headers)}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status, code, message):
        self.say(status, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message})

    # ------------------------------------------------------------------------------------------------------ requests

    def route(self):
        routes = (
            ("GET", r"/api/whoami-v2", self.whoami),
            ("POST", r"/api/repos/create", self.create),
            ("POST", r"/api/validate-yaml", self.validate),
            ("POST", r"/api/models/([^/]+/[^/]+)/preupload/(.+)", self.preupload),
            ("POST", r"/api/models/([^/]+/[^/]+)/commit/(.+)", self.commit),
            ("POST", r"/api/models/([^/]+/[^/]+)/branch/(.+)", self.branch),
            ("GET", r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", self.tree),
            ("GET", r"/api/models/([^/]+/[^/]+)/revision/(.+)", self.info),
            ("GET", r"/api/models/([^/]+/[^/]+)", self.info),
            ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.batch),
            ("PUT", r"/lfs/[^/]+/[^/]+/(\w+)", self.store),
            ("POST", r"/lfs/[^/]+/[^/]+/(\w+)/verify", self.verify),
            ("HEAD", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.resolve),
            ("GET", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.resolve),
        )
        for method, pattern, answer in routes:
            match = re.fullmatch(pattern, self.path)
            if match and method == self.command:
                return answer(*match.groups())
        self.refuse(404, "NotFound", f"the stand-in has no {self.command} {self.path}")

    @property
    def token(self):
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def may_write(self):
        if self.token == WRITE_TOKEN:
            return True
        if self.token == READ_TOKEN:
            self.refuse(403, "Forbidden", f"the token {READ_TOKEN} may only read")
        elif self.token:
            self.refuse(401, "Unauthorized", "Invalid credentials in Authorization header")
        else:
            self.refuse(401, "Unauthorized", "Invalid username or password.")
        return False

    def readable(self, repo_id, revision="main"):
        """The repository and the commit, or none after an answer."""
        repo = self.server.repos.get(repo_id)
        if repo is None or (repo.private and self.token not in (WRITE_TOKEN, READ_TOKEN)):
            return self.refuse(401 if not self.token else 404, "RepoNotFound", "Repository not found") or (None, None)
        sha = repo.branches.get(revision, revision)
        if sha not in repo.commits:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id") or (None, None)
        return repo, sha

    def whoami(self):
        if self.token in (WRITE_TOKEN, READ_TOKEN):
            return self.say(200, {"name": "someone", "type": "user", "orgs": []})
        self.refuse(401, "Unauthorized", "Invalid username or password.")

    def create(self):
        asked = json.loads(self.body)
        repo_id = f"{asked.get('organization') or 'someone'}/{asked['name']}"
        if not self.may_write():
            return
        there = repo_id in self.server.repos
        if not there:
            repo = self.server.repos[repo_id] = Repo(private=asked.get("visibility") == "private")
            repo.commit("main", {".gitattributes": (b"*.safetensors filter=lfs\n", False)}, "initial commit")
        url = f"{self.server.url}/{repo_id}"
        self.say(409 if there else 200, {"url": url, "name": repo_id, **({"error": "it exists"} if there else {})})

    def validate(self):
        faults = card_faults(json.loads(self.body)["content"])
        self.say(400 if faults else 200, {"errors": [{"message": fault} for fault in faults], "warnings": []})

    def branch(self, repo_id, branch):
        repo, sha = self.readable(repo_id)
        if repo is None or not self.may_write():
            return
        if branch in repo.branches:
            return self.refuse(409, "Conflict", "Reference already exists")
        repo.branches[branch] = sha
        self.say(200, {})

    def preupload(self, repo_id, revision):
        repo, sha = self.readable(repo_id, revision)
        if repo is None or not self.may_write():
            return
        files = []
        for file in json.loads(self.body)["files"]:
            data, large = repo.commits[sha].get(file["path"], (None, False))
            oid = data if data is None else hashlib.sha256(data).hexdigest() if large else git_oid(data)
            mode = "lfs" if file["size"] >= LARGE else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.say(200, {"files": files})

    def batch(self, repo_id):
        repo, _ = self.readable(repo_id)
        if repo is None or not self.may_write():
            return
        answers = []
        for asked in json.loads(self.body)["objects"]:
            answers.append({"oid": asked["oid"], "size": asked["size"]})
            if asked["oid"] in self.server.objects:
                continue
            place = f"{self.server.url}/lfs/{repo_id}/{asked['oid']}"
            upload = {"href": place}
            answers[-1]["actions"] = {"upload": upload, "verify": {"href": f"{place}/verify"}}
        self.say(200, {"transfer": "basic", "objects": answers})

    def store(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self.refuse(400, "BadRequest", "the content is not what its name says")
        self.server.objects[oid] = self.body
        self.say(200)

    def verify(self, oid):
        data = self.server.objects.get(oid)
        if data is None or len(data) != json.loads(self.body)["size"]:
            return self.refuse(404, "NotFound", "the object is not there")
        self.say(200, {})

    def commit(self, repo_id, revision):
        repo, _ = self.readable(repo_id, revision)
        if repo is None or not self.may_write():
            return
        changes, message = {}, ""
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                changes[value["path"]] = (base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.server.objects:
                    return self.refuse(400, "BadRequest", f"{value['path']} was never uploaded")
                changes[value["path"]] = (self.server.objects[value["oid"]], True)
            elif line["key"] == "deletedFile":
                changes[value["path"]] = None
        sha = repo.commit(revision, changes, message)
        url = f"{self.server.url}/{repo_id}/commit/{sha}"
        self.say(200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def info(self, repo_id, revision="main"):
        repo, sha = self.readable(repo_id, revision)
        if repo is not None:
            siblings = [{"rfilename": path} for path in repo.commits[sha]]
            self.say(200, {"id": repo_id, "sha": sha, "private": repo.private, "siblings": siblings, "tags": []})

    def tree(self, repo_id, revision):
        repo, sha = self.readable(repo_id, revision)
        if repo is None:
            return
        entries = []
        for path, (data, large) in repo.commits[sha].items():
            entries.append({"type": "file", "path": path, "size": len(data), "oid": git_oid(data)})
            if large:
                small = pointer(data).encode()
                lfs = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": len(small)}
                entries[-1] |= {"oid": git_oid(small), "lfs": lfs}
        self.say(200, entries)

    def resolve(self, repo_id, revision, path):
        repo, sha = self.readable(repo_id, revision)
        if repo is None:
            return
        if path not in repo.commits[sha]:
            return self.say(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
        data, large = repo.commits[sha][path]
        oid = hashlib.sha256(data).hexdigest() if large else git_oid(data)
        headers = {"ETag": f'"{oid}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if large:
            headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data))}
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if start:
            first = int(start[1])
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            return self.say(206, data[first:], headers)
        self.say(200, data, headers)
