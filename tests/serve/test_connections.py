"""Clients that hold connections without a request in work, while others are served."""

import socket
import time
from contextlib import suppress
from http.client import HTTPConnection

import pytest

from tests.serve.running import running

pytest.importorskip("uvicorn")
starlette = pytest.importorskip("starlette.applications")

from starlette.responses import PlainTextResponse  # noqa: E402
from starlette.routing import Route  # noqa: E402

SECONDS = 3.0
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HEADERS = REQUEST[:-2] + b"X: " + b"x" * 10_000
WITH_BODY = REQUEST[:-2] + b"Content-Length: 10000\r\n\r\n"
LARGE = b"0" * 32_000_000  # more than the buffers of a connection hold


@pytest.fixture(scope="module")
def port():
    app = starlette.Starlette(
        routes=[
            Route("/", lambda _: PlainTextResponse("served")),
            Route("/large", lambda _: PlainTextResponse(LARGE)),
        ]
    )
    with running(app, SECONDS) as port:
        yield port


class Slow:
    """A client that has an answer, if it begins with a request, and then sends byte by byte.

    Attributes:
        answer: what came to that.
        is_open: whether the connection is.
    """

    def __init__(self, port: int, request: bytes, rest: bytes):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        if request:
            self.connection.sendall(request)
            assert self.connection.recv(1000).endswith(b"served")
        self.connection.settimeout(0.05)
        self.rest, self.answer, self.is_open = iter(rest), b"", True

    def drip(self) -> None:
        try:
            part = self.connection.recv(1000)
        except TimeoutError:
            with suppress(ConnectionError, StopIteration):
                self.connection.sendall(bytes([next(self.rest)]))
        except ConnectionError:
            self.is_open = False
        else:
            self.answer += part
            self.is_open = bool(part)


def _served(port) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/")
    answer = connection.getresponse().read()
    connection.close()
    return answer == b"served"


def test_slow_clients_are_left(port):
    """Those that send headers, or a body that nobody waits for, and those that say nothing."""
    told = [Slow(port, b"", HEADERS), Slow(port, REQUEST, HEADERS)]
    left = [Slow(port, b"", b""), Slow(port, WITH_BODY, b"x" * 9_999)]
    deadline = time.monotonic() + 10 * SECONDS
    while any(client.is_open for client in told + left):
        assert time.monotonic() < deadline
        assert _served(port)
        for client in told + left:
            if client.is_open:
                client.drip()
    for client in told:
        assert client.answer.startswith(b"HTTP/1.1 408 ")
        assert client.answer.endswith(b'{"error": "the headers did not arrive within 3 s"}')
    assert [client.answer for client in left] == [b"", b""]


def test_headers_in_parts(port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for part in (REQUEST[:10], REQUEST[10:]):
            time.sleep(0.05)
            connection.sendall(part)
        assert connection.recv(1000).endswith(b"served")


def test_an_answer_that_is_not_read(port):
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", port))
        connection.sendall(REQUEST.replace(b"/ ", b"/large ", 1))
        time.sleep(SECONDS + 1)
        received = 0
        with suppress(ConnectionError):
            while part := connection.recv(1_000_000):
                received += len(part)
        assert received < len(LARGE)
