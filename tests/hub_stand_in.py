"""A stand-in of the Hugging Face hub: the part of its HTTP API that downloading and pushing a model take."""

import base64
import contextlib
import hashlib
import http.server
import json
import pathlib
import re
import threading
import urllib.parse
from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """Repositories in memory.

    Attributes:
      repositories: name → file → content.
      gated: names of those whose files nobody gets.
      asked: method and path of every request.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, folder: str | pathlib.Path) -> None:
        """Puts the files of a folder into a repository."""
        root = pathlib.Path(folder)
        files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        self.repositories.setdefault(name, {}).update(files)

    def downloaded(self, name: str) -> set[str]:
        """The files of a repository whose content has been asked for."""
        prefix = f"GET /{name}/resolve/"
        return {asked.removeprefix(prefix).partition("/")[2] for asked in self.asked if asked.startswith(prefix)}


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    """A hub that answers while the block runs."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {urllib.parse.unquote(path)}")
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(?:revision|tree)/([^/]+))?", path):
            if files := self._files(match[1], urllib.parse.unquote(match[2] or "main")):
                entries = [{"path": name, "rfilename": name, "size": len(content)} for name, content in files.items()]
                for entry in entries:
                    entry |= {"type": "file", "oid": _digest(files[entry["path"]])}
                about = {"id": match[1], "modelId": match[1], "sha": COMMIT, "siblings": entries}
                self._answer(200, json.dumps(entries if "/tree/" in path else about).encode())
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            files, name = self._files(match[1], urllib.parse.unquote(match[2])), urllib.parse.unquote(match[3])
            if files and match[1] in self.server.gated:
                self._answer(403, b"", {"X-Error-Code": "GatedRepo"})
            elif files and name not in files:
                self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            elif files:
                digest = _digest(files[name])
                self._answer(200, files[name], {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT})
        else:
            self._answer(404, b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(f"POST {self.path}")
        if self.path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            self.server.repositories.setdefault(name, {})
            self._answer(200, json.dumps({"url": f"{self.server.address}/{name}"}).encode())
        elif "/preupload/" in self.path:
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            self._answer(200, json.dumps({"files": files}).encode())
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            for operation in map(json.loads, body.splitlines()):
                if operation["key"] == "file":
                    value = operation["value"]
                    self.server.repositories[match[1]][value["path"]] = base64.b64decode(value["content"])
            address = f"{self.server.address}/{match[1]}/commit/{COMMIT}"
            self._answer(200, json.dumps({"commitUrl": address, "commitOid": COMMIT, "success": True}).encode())
        else:
            self._answer(200, b"{}")

    def _files(self, name: str, revision: str) -> dict[str, bytes] | None:
        if name not in self.server.repositories:
            self._answer(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", "v1", "refs/pr/1", COMMIT):
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            return self.server.repositories[name]
        return None

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
