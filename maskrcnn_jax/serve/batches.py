"""Images of requests that come together, detected in one call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

import numpy as np

from maskrcnn_jax.inference.result import Result

Detect = Callable[[Sequence[np.ndarray]], list[Result]]
# An image, and who waits for what is found in it.
_Item = tuple[np.ndarray, "asyncio.Future[Result]"]


class Batches:
    """Gathers images and detects their objects, a batch at a time, in a thread of its own."""

    def __init__(
        self,
        detect: Detect,
        size: int,
        wait: float,
        observe: Callable[[int], None] = lambda number: None,
    ):
        """Takes what detects.

        Args:
            detect: gets 1 to `size` images.
            size: images of a batch, at most.
            wait: seconds for which the first image of a batch waits for others.
            observe: gets the number of images of each batch.
        """
        self._detect, self._size, self._wait, self._observe = detect, size, wait, observe
        self._waiting: asyncio.Queue[_Item] = asyncio.Queue()
        # Decoded images are large: those of a batch in work and of the next one, not more.
        self._decoded = asyncio.Semaphore(2 * size)

    async def __call__(
        self, decode: Callable[[], Awaitable[np.ndarray]]
    ) -> tuple[np.ndarray, Result]:
        """Returns an image and what was found in it.

        Args:
            decode: gives the image; it is called when there is room for it.

        Raises:
            Exception: whatever decoding or detecting raises.
        """
        async with self._decoded:
            image = await decode()
            found: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            self._waiting.put_nowait((image, found))
            return image, await found

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Detects what comes for as long as the context is open."""
        with ThreadPoolExecutor(1, "detector") as thread:
            task = asyncio.create_task(self._run(thread))
            try:
                yield
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _run(self, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [item for item in await self._next() if not item[1].done()]
            if not batch:  # whoever waited for them has left
                continue
            self._observe(len(batch))
            images = [image for image, _ in batch]
            try:
                results = await loop.run_in_executor(thread, self._detect, images)
            except Exception as error:
                _settle(batch, [error] * len(batch))
            else:
                _settle(batch, results)

    async def _next(self) -> list[_Item]:
        batch = [await self._waiting.get()]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait):
                while len(batch) < self._size:
                    batch.append(await self._waiting.get())
        return batch


def _settle(batch: Sequence[_Item], outcomes: Sequence[Result | Exception]) -> None:
    """Gives the results, or the errors that came instead, to those who still wait for them."""
    for (_, found), outcome in zip(batch, outcomes, strict=True):
        if found.done():
            continue
        if isinstance(outcome, Exception):
            found.set_exception(outcome)
        else:
            found.set_result(outcome)
