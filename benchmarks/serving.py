"""A server under load, on this machine alone: `python -m benchmarks.serving SOURCE`.

Starts `python -m maskrcnn_jax.serve`, sends requests from threads over the loopback, and prints a
JSON line for each concurrency: requests/s, p50 and p99, the answers by status, the server's memory.
With `--total` so many requests follow at the highest concurrency, a line every tenth of them, which
shows whether memory grows.
"""

import argparse
import io
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException

import numpy as np
from PIL import Image

from benchmarks import measure


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("--side", type=int, default=128, help="of the images, pixels")
    parser.add_argument("--requests", type=int, default=200, help="at each concurrency")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--total", type=int, default=0, help="further requests, for memory")
    parser.add_argument("--batch_size", type=int, default=1)
    arguments = parser.parse_args(argv)
    command = [sys.executable, "-m", "maskrcnn_jax.serve", arguments.source, "--port=0"]
    command += [f"--batch_size={arguments.batch_size}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if (told := re.search(r":(\d+)\n", line)) is None:
            raise SystemExit("the server has not started")
        try:
            _measure(int(told[1]), process.pid, arguments)
        finally:
            process.terminate()


def _measure(port: int, pid: int, arguments: argparse.Namespace) -> None:
    body = _image(arguments.side)
    _load(port, body, 1, 5)
    for concurrency in arguments.concurrency:
        _say(concurrency, *_load(port, body, concurrency, arguments.requests), pid)
    for _ in range(10 if arguments.total else 0):
        concurrency = max(arguments.concurrency)
        _say(concurrency, *_load(port, body, concurrency, arguments.total // 10), pid)


def _say(concurrency: int, seconds: float, times: list[float], statuses: Counter, pid: int):
    p50, p99 = np.quantile(times, (0.5, 0.99))
    line = {
        "benchmark": "serving",
        "concurrency": concurrency,
        "requests_per_s": round(len(times) / seconds, 1),
        "p50_ms": round(1e3 * p50, 1),
        "p99_ms": round(1e3 * p99, 1),
        "statuses": dict(statuses),
        "rss_mib": _memory(pid),
        "load_1min": measure.machine()["load_1min"],
    }
    print(json.dumps(line), flush=True)


def _load(port: int, body: bytes, concurrency: int, number: int):
    """Sends requests; returns the time of all, of each, and the answers by status."""
    times: list[float] = []
    statuses: Counter = Counter()
    share = [number // concurrency + (i < number % concurrency) for i in range(concurrency)]

    def work(number: int) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=120)
        for _ in range(number):
            start = time.perf_counter()
            try:
                connection.request("POST", "/predict", body, {"Content-Type": "image/png"})
                response = connection.getresponse()
                response.read()
                statuses[response.status] += 1
            except (OSError, HTTPException) as error:
                statuses[type(error).__name__] += 1
                connection.close()
            times.append(time.perf_counter() - start)
        connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in share]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start, times, statuses


def _image(side: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(stream, "PNG")
    return stream.getvalue()


def _memory(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096 // 2**20


if __name__ == "__main__":
    main()
