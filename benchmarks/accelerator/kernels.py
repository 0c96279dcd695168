"""What a device started while something ran, from a profile."""

import collections
import gzip
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jax


def profiled(call: Callable[[], object], times: int, most: int = 40) -> dict:
    """Returns the kernels that took most of the device's time.

    Args:
        call: starts the work once; it has run before.
        times: how often it is called.
        most: how many kernels are named.

    Returns:
        `device_us` and `launches` of one call, and `kernels`: name, microseconds, launches. All is
        empty where the backend has no device of its own, as a CPU.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(times):
                result = call()
            jax.block_until_ready(result)
        files = list(Path(folder).rglob("*.trace.json.gz"))
        microseconds: collections.Counter[str] = collections.Counter()
        launches: collections.Counter[str] = collections.Counter()
        for event in (event for file in files for event in _on_device(file)):
            microseconds[event["name"]] += event["dur"]
            launches[event["name"]] += 1
    table = [
        {
            "kernel": name[:90],
            "us": round(total / times, 1),
            "launches": round(launches[name] / times, 1),
        }
        for name, total in microseconds.most_common(most)
    ]
    return {
        "device_us": round(sum(microseconds.values()) / times, 1),
        "launches": round(sum(launches.values()) / times, 1),
        "kernels": table,
    }


def _on_device(file: Path) -> Iterator[dict]:
    """Yields the events of a trace that are kernels: on a device, in one of its streams."""
    with gzip.open(file) as opened:
        events = json.load(opened)["traceEvents"]

    def named(kind, part, *keys):
        return {
            tuple(event[key] for key in keys)
            for event in events
            if event.get("name") == kind and part in str(event.get("args"))
        }

    devices = named("process_name", "/device:", "pid")
    lanes = named("thread_name", "Stream", "pid", "tid") | named(
        "thread_name", "XLA Ops", "pid", "tid"
    )
    for event in events:
        is_timed = event.get("ph") == "X" and (event["pid"],) in devices
        if is_timed and (not lanes or (event["pid"], event.get("tid")) in lanes):
            yield event
