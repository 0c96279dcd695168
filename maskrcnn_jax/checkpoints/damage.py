"""Whether an error on reading a checkpoint is the fault of its files, in one line."""

import gc
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

# Not the files are at fault then, and another attempt may succeed.
_PASSING = (
    "RESOURCE_EXHAUSTED",
    "PERMISSION_DENIED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "ABORTED",
)


def attempt(read: Callable[[], Any]) -> tuple[Any, str | None]:
    """Returns what a function reads and None, or None and what is wrong with the files.

    Args:
        read: without arguments.

    Raises:
        OSError, MemoryError, JaxRuntimeError: where it is not the files' fault.
    """
    with _without_other_readings():
        try:
            return read(), None
        except Exception as error:
            if is_passing(error):
                raise
            fault = first_line(error)
        gc.collect()  # here, where the error and what it held are gone
    return None, fault


@contextmanager
def _without_other_readings() -> Iterator[None]:
    """Drops what TensorStore's other readings say: each fails too, with pages of text.

    Python says it where they are collected: of futures by its hook, of tasks in asyncio's log.
    """
    hook, log = sys.unraisablehook, logging.getLogger("asyncio")
    sys.unraisablehook = lambda _: None
    log.addFilter(_is_of_no_task)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        log.removeFilter(_is_of_no_task)


def _is_of_no_task(record: logging.LogRecord) -> bool:
    return "exception was never retrieved" not in record.getMessage()


def is_passing(error: BaseException) -> bool:
    """Returns whether an error on reading has another cause than the files themselves."""
    chain = list(causes(error))
    if any(isinstance(link, jax.errors.JaxRuntimeError | MemoryError) for link in chain):
        return True
    if any(isinstance(link, OSError) and not _is_absence(link) for link in chain):
        return True
    return any(str(link).startswith(_PASSING) for link in chain)


def first_line(error: BaseException) -> str:
    """Returns the cause of an error in a line of at most 200 characters."""
    texts = [
        str(link.args[0]) if isinstance(link, KeyError) and link.args else str(link)
        for link in causes(error)
    ]
    text = next((text for text in reversed(texts) if text), type(error).__name__)
    text = text.splitlines()[0].split(" [tensorstore_spec")[0].split(" [source locations")[0]
    return text if len(text) <= 200 else f"{text[:100]} ... {text[-95:]}"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and what led to it, the newest first."""
    while error is not None:
        yield error
        hidden = error.__suppress_context__
        error = error.__cause__ or (None if hidden else error.__context__)


def _is_absence(error: OSError) -> bool:
    return isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
