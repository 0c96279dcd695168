"""A limit of time for connections that have no request in work.

uvicorn ends a connection that is silent between two requests, and no other. A client that sends the
headers of a request a byte at a time would hold one for as long as it likes, and a client that does
not read its answer would hold that, too.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s"
)


def protocol(seconds: float) -> type[asyncio.Protocol]:
    """Returns uvicorn's protocol of HTTP, with a limit, for the `http` of its configuration.

    Args:
        seconds: in which a request's headers must have come, from when the connection was opened
            or the answer before was complete, and in which such an answer must be taken.
    """

    class Limited(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport):
            super().connection_made(transport)
            self._watch()

        def data_received(self, data):
            super().data_received(data)
            self._watch()

        def on_response_complete(self):
            super().on_response_complete()
            self._watch()

        def connection_lost(self, exc):
            super().connection_lost(exc)
            self._stop()

        def _watch(self):
            """Lets the time run where no request is in work, and no longer."""
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop()
            elif self._timer is None:
                self._timer = self.loop.call_later(seconds, self._end)

        def _stop(self):
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _end(self):
            begun, _ = self.conn.trailing_data
            if begun and self.conn.their_state is h11.IDLE:
                error = b'{"error": "the headers did not arrive within %g s"}' % seconds
                self.transport.write(_TOO_SLOW % (len(error), error))
            if self.transport.get_write_buffer_size():
                self.transport.abort()  # closing would wait for a client that does not read
            else:
                self.transport.close()

    return Limited
