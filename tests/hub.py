"""A stand-in for the Hugging Face Hub: as much of its HTTP as publishing and fetching a model take.

It keeps repositories in memory as commits of files. Large files go the way of Git LFS, small ones
inside the commit, as on the hub.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_standin"


class Hub:
    """What the server knows."""

    def __init__(self):
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        """repository -> commit -> file -> content, oldest first."""
        self.refs: dict[str, dict[str, str]] = {}
        """repository -> branch or tag -> commit."""
        self.objects: dict[str, bytes] = {}
        """Of Git LFS, by hash."""
        self.requests: list[str] = []
        self.endpoint = ""

    def create(self, repo: str) -> None:
        if repo not in self.commits:
            self.commits[repo], self.refs[repo] = {}, {}
            self.commit(repo, "main", {".gitattributes": b""})

    def commit(self, repo: str, branch: str, files: dict[str, bytes]) -> str:
        about = repr((repo, len(self.commits[repo]), sorted(files.items())))
        sha = hashlib.sha1(about.encode()).hexdigest()
        self.commits[repo][sha] = files
        self.refs[repo][branch] = sha
        return sha

    def resolve(self, repo: str, revision: str) -> str | None:
        known = self.refs.get(repo, {})
        return known.get(revision, revision if revision in self.commits.get(repo, {}) else None)

    def is_large(self, name: str) -> bool:
        return name.endswith((".safetensors", ".model", ".mp3", ".png"))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        self.hub.requests.append(format % args)

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, headers.pop(name.replace("-", "_"), value))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def missing(self, code: str) -> None:
        self.answer(404, {"error": code}, X_Error_Code=code)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self.body()
        self.answer(401, {"error": "log in"})
        return False

    def found(self, repo: str, revision: str) -> str | None:
        """The commit; None when the answer has been given."""
        if repo not in self.hub.commits:
            self.missing("RepoNotFound")
            return None
        sha = self.hub.resolve(repo, revision)
        if sha is None:
            self.missing("RevisionNotFound")
        return sha

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            repo, revision = match[1], match[2] or "main"
            if sha := self.found(repo, revision):
                files = [{"rfilename": name} for name in self.hub.commits[repo][sha]]
                self.answer(200, {"id": repo, "sha": sha, "siblings": files, "tags": []})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            if sha := self.found(match[1], match[2]):
                self.answer(200, [self.entry(*f) for f in self.hub.commits[match[1]][sha].items()])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.file(match[1], match[2], match[3])
        else:
            self.missing("EntryNotFound")

    def entry(self, name: str, content: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": "0"}
        entry["oid"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        if self.hub.is_large(name):
            oid = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
        return entry

    def file(self, repo: str, revision: str, name: str) -> None:
        sha = self.found(repo, revision)
        if sha is None:
            return
        content = self.hub.commits[repo][sha].get(name)
        if content is None:
            self.answer(404, {}, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
            return
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        self.answer(200, content, ETag=etag, X_Repo_Commit=sha)

    def do_PUT(self) -> None:
        content = self.body()
        self.hub.objects[hashlib.sha256(content).hexdigest()] = content
        self.answer(200)

    def do_POST(self) -> None:
        if not self.allowed():
            return
        path, content = unquote(urlsplit(self.path).path), self.body()
        if path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            asked = json.loads(content)
            repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
            status = 409 if repo in self.hub.commits else 200
            self.hub.create(repo)
            self.answer(status, {"url": f"{self.hub.endpoint}/{repo}", "id": repo})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/branch/(.+)", path):
            known = self.hub.refs[match[1]]
            status = 409 if match[2] in known else 200
            known.setdefault(match[2], known["main"])
            self.answer(status, {})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/(.+)", path):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if self.hub.is_large(file["path"]) else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in json.loads(content)["files"]
            ]
            self.answer(200, {"files": files})
        elif match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            objects = [
                {
                    **thing,
                    "actions": {"upload": {"href": f"{self.hub.endpoint}/upload/{thing['oid']}"}},
                }
                for thing in json.loads(content)["objects"]
            ]
            self.answer(200, {"transfer": "basic", "objects": objects})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", path):
            self.committed(match[1], match[2], content)
        else:
            self.missing("EntryNotFound")

    def committed(self, repo: str, branch: str, content: bytes) -> None:
        files = dict(self.hub.commits[repo][self.hub.refs[repo][branch]])
        for line in map(json.loads, content.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                files.pop(value["path"], None)
        sha = self.hub.commit(repo, branch, files)
        url = f"{self.hub.endpoint}/{repo}/commit/{sha}"
        self.answer(200, {"commitUrl": url, "commitOid": sha, "success": True})


@contextmanager
def standin() -> Iterator[Hub]:
    """A hub at its `endpoint`, for as long as the context lasts."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Of", (Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
