"""A server in a thread, on a port of its own."""

import threading
import time
from contextlib import contextmanager


@contextmanager
def running(app):
    """Serves an application; yields its port."""
    import uvicorn

    config = uvicorn.Config(app, port=0, log_level="error", lifespan="on")
    server, listening = uvicorn.Server(config), config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()
