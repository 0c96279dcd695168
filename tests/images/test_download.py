"""Images from the web: from a server in this process, which does not always behave."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from maskrcnn_jax.images.download import download


class _Host(BaseHTTPRequestHandler):
    def do_GET(self):
        getattr(self, self.path.strip("/"))()

    def _send(self, status=200, announced=None, content=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if announced is not None:
            self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(content)

    def image(self):
        self._send(announced=1000, content=b"x" * 1000)

    def of_unknown_length(self):
        self._send(content=b"x" * 1000)

    def moved(self):
        self._send(302, Location="/image")

    def elsewhere(self):
        self._send(302, Location="ftp://host/image")

    def gone(self):
        self._send(404)

    def huge(self):
        self._send(announced=10**12)

    def cut(self):
        self._send(announced=1000, content=b"x" * 10)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def host():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Host) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def without_a_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize("path", ["image", "of_unknown_length", "moved"])
def test_what_an_address_gives(host, path):
    assert download(f"{host}/{path}") == b"x" * 1000


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("gone", "HTTP Error 404"),
        ("huge", "it has more than 256 MiB"),
        ("cut", "it ended after 10 of 1000 bytes"),
        ("elsewhere", "it leads to ftp://host/image"),
    ],
)
def test_what_goes_wrong_is_said(host, path, said):
    with pytest.raises(OSError, match=f"{path} could not be downloaded: {said}"):
        download(f"{host}/{path}")


def test_limits(host):
    with pytest.raises(OSError, match="it has more than"):
        download(f"{host}/of_unknown_length", most=999)
    with pytest.raises(OSError, match="has not ended after 0 seconds"):
        download(f"{host}/image", longest=0)
    with pytest.raises(OSError, match=r"http://127.0.0.1:1/a could not be downloaded: .*refused"):
        download("http://127.0.0.1:1/a")
