"""The pool of threads by itself: order, bounds, and how it ends."""

import signal
import threading
import time
from contextlib import closing

import numpy as np
import pytest

from maskrcnn_jax.data.input import thread_pool


def row(position: int) -> list[np.ndarray]:
    time.sleep(0.002 * (position % 3))  # rows are ready in another order
    return [np.full((2, 3), position, np.uint8), np.array(position), np.array(b"x", np.object_)]


def batches(prepare, positions=range(40), batch_size=4, workers=3, prefetch=2):
    return thread_pool.batches(prepare, {}, positions, batch_size, workers, prefetch)


def workers_alive() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("batches")]


@pytest.mark.parametrize("workers", [1, 3, 9])
@pytest.mark.parametrize("prefetch", [0, 2, 50])
def test_rows_come_stacked_in_order(workers, prefetch):
    found = list(batches(row, range(8, 32), workers=workers, prefetch=prefetch))
    assert len(found) == 6
    for number, (images, numbers, texts) in enumerate(found):
        first = 8 + 4 * number
        assert numbers.tolist() == list(range(first, first + 4))
        assert images.shape == (4, 2, 3)
        assert (images.dtype, texts.dtype) == (np.uint8, np.object_)
        np.testing.assert_array_equal(images[:, 0, 0], numbers)
        assert not images.flags.writeable
    assert workers_alive() == []


def test_an_error_comes_where_its_batch_would():
    def prepare(position):
        if position in (9, 10):
            raise LookupError(f"position {position}")
        return row(position)

    running = batches(prepare)
    assert [next(running)[1][0], next(running)[1][0]] == [0, 4]
    with pytest.raises(LookupError, match=r"position (9|10)"):
        next(running)
    assert workers_alive() == []
    assert list(running) == []


def test_rows_that_do_not_fit_together_are_an_error_too():
    with pytest.raises(ValueError, match="same shape"):
        next(batches(lambda position: [np.zeros(position % 2 + 1)]))


def test_nothing_starts_before_it_is_asked_for():
    begun = []
    with closing(batches(begun.append)):
        time.sleep(0.05)
        assert begun == []
        assert workers_alive() == []


@pytest.mark.parametrize(("workers", "batch_size", "prefetch"), [(3, 4, 2), (5, 2, 0), (1, 4, 1)])
def test_few_batches_are_prepared_ahead(workers, batch_size, prefetch):
    begun, at_once, most = [], set(), []

    def prepare(position):
        begun.append(position)
        at_once.add(position)
        most.append(len(at_once))
        time.sleep(0.002)
        at_once.remove(position)
        return [np.array(position)]

    running = batches(prepare, range(0, 10**12, 1), batch_size, workers, prefetch)
    with closing(running):
        for taken in (1, 2, 3):
            next(running)
            expected = (taken + prefetch + -(-workers // batch_size)) * batch_size
            deadline = time.monotonic() + 20
            while len(begun) < expected and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.05)  # in which the workers would do more
            assert len(begun) == expected
    assert max(most) <= workers


def test_closing_drops_what_has_not_begun_and_ends_the_threads():
    begun = []

    def prepare(position):
        begun.append(position)
        if position >= 4:
            time.sleep(0.05)
        return row(position)

    running = batches(prepare, workers=2, prefetch=8)
    next(running)
    running.close()
    assert workers_alive() == []
    assert len(begun) <= 4 + 2 * 2


def test_an_iterator_that_is_forgotten_ends_its_threads():
    running = batches(row)
    next(running)
    assert workers_alive()
    del running
    assert workers_alive() == []


@pytest.fixture
def ctrl_c():
    """The usual handler: a shell's background jobs, the suite among them, start without one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_a_wait_for_a_batch(ctrl_c):
    main, waiting = threading.main_thread().ident, threading.Event()

    def prepare(position):
        if position == 4:
            waiting.set()
            signal.pthread_kill(main, signal.SIGINT)
        if position >= 4:
            time.sleep(0.1)
        return row(position)

    running = batches(prepare, workers=2)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        for _ in running:
            pass
    assert waiting.is_set()
    assert time.monotonic() - began < 2
    assert workers_alive() == []
