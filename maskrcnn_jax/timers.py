"""What happens when something takes too long."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def called_after(seconds: float, function: Callable[[], object]) -> Iterator[None]:
    """Calls a function, in a thread of its own, if what is done within takes so long.

    Args:
        seconds: from now.
        function: called once at most; it does not keep the process from ending.
    """
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
