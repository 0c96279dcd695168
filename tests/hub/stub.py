"""A hub on this machine: the requests of HTTP by which models are sent and fetched."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Keeps the files of repositories in memory.

    Attributes:
        repositories: the content of the files, by USER/NAME and path.
        fetched: the paths whose content was asked for.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.fetched: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def running():
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        yield hub
        hub.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_):
        pass

    def do_POST(self):
        content = self._body()
        parts = self.path.strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            given = json.loads(content)
            name = f"{given['organization']}/{given['name']}"
            self.server.repositories.setdefault(name, {})
            return self._json({"url": f"{self.server.address}/{name}", "id": name})
        if parts == ["api", "validate-yaml"]:
            return self._json({"errors": [], "warnings": []})
        name, action = "/".join(parts[2:4]), parts[4]
        if action == "preupload":
            files = json.loads(content)["files"]
            modes = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in files
            ]
            return self._json({"files": modes})
        for line in map(json.loads, content.splitlines()):
            if line["key"] == "file":
                stored = base64.b64decode(line["value"]["content"])
                self.server.repositories[name][line["value"]["path"]] = stored
        page = f"{self.server.address}/{name}/commit/{REVISION}"
        return self._json(
            {"commitUrl": page, "commitOid": REVISION, "hookOutput": "", "success": True}
        )

    def do_GET(self):
        path = self.path.partition("?")[0]
        parts = path.strip("/").split("/")
        if parts[0] == "api":
            return self._about("/".join(parts[2:4]), parts[4:])
        name, file = "/".join(parts[:2]), "/".join(parts[4:])
        content = self.server.repositories.get(name, {}).get(file)
        if content is None:
            return self._missing("EntryNotFound")
        if self.command == "GET":
            self.server.fetched.append(file)
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        return self._send(content, {"ETag": etag, "X-Repo-Commit": REVISION})

    do_HEAD = do_GET

    def _about(self, name, rest):
        files = self.server.repositories.get(name)
        if files is None:
            return self._missing("RepoNotFound")
        about = {
            "id": name,
            "sha": REVISION,
            "private": False,
            "siblings": [{"rfilename": file} for file in files],
        }
        if rest[:1] == ["tree"]:
            entries = [
                {"type": "file", "path": file, "size": len(content), "oid": "0" * 40}
                for file, content in files.items()
            ]
            return self._json(entries)
        return self._json(about)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _json(self, value):
        self._send(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _missing(self, code):
        self._send(b"{}", {"X-Error-Code": code, "X-Error-Message": "not found"}, 404)

    def _send(self, content, headers, status=200):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
