import asyncio
import gc
import logging

import pytest

from maskrcnn_jax.checkpoints.damage import attempt


def _read_side_by_side(error: Exception) -> None:
    """Reads as Orbax does: several arrays at once, each of which fails."""

    async def read(name: str) -> None:
        raise type(error)(f"{name}: {error}")

    async def read_all() -> None:
        readings = [asyncio.create_task(read(name)) for name in ("kernel", "bias")]
        await asyncio.sleep(0)
        await readings[0]

    asyncio.run(read_all())


def test_one_fault_of_several_arrays_gives_one_line(caplog):
    result, fault = attempt(lambda: _read_side_by_side(ValueError("out of range")))
    assert (result, fault) == (None, "kernel: out of range")
    gc.collect()  # asyncio speaks of a task where it is collected
    assert caplog.text == ""
    logging.getLogger("asyncio").error("what else asyncio says")
    assert "what else asyncio says" in caplog.text


def test_an_error_that_passes_is_raised(caplog):
    with pytest.raises(PermissionError, match="kernel: not now"):
        attempt(lambda: _read_side_by_side(PermissionError("not now")))
    gc.collect()
