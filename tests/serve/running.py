"""A server in a thread, on a port of its own."""

import threading
import time
from contextlib import contextmanager


@contextmanager
def running(app, seconds=30.0):
    """Serves an application to clients that take so long at most; yields its port."""
    import uvicorn

    from maskrcnn_jax.serve.connections import protocol

    config = uvicorn.Config(app, http=protocol(seconds), port=0, log_level="error", lifespan="on")
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
