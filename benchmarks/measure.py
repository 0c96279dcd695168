"""What all benchmarks share: arguments, rounds that take turns, and one JSON line per result.

Every line holds `benchmark`, `case`, `side`, `sizes`, `median_s`, `quartiles_s`, `rounds`, the
machine and the versions. Our own lines also have `compile_s` (without a cache),
`compiled_memory_mib` (what XLA says the program needs, by kind) and `peak_rss_mib` (of the process
so far); beside a peer they have `speedup`, the peer's median divided by ours, and `same_work`,
whether the counts agree.
"""

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

import jax
import numpy as np

OURS = "maskrcnn_jax"
# One call of a side: seconds, and what was counted in it.
Side = Callable[[], tuple[float, dict]]


def argument_parser(description: str, rounds: int) -> argparse.ArgumentParser:
    """Returns a parser with the arguments of every benchmark."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help="timed calls of each side")
    parser.add_argument(
        "--threads", type=int, default=0, help="cores that both sides may use; 0: all (Linux only)"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="smallest sizes: shows that it runs, measures nothing"
    )
    return parser


def add_peer_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer", choices=("torchvision",), help="time it too, on the same work")
    parser.add_argument(
        "--peer-python", default="python3", help="the interpreter that has torch and torchvision"
    )


def add_dtype_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dtype", default="float32", choices=("float32", "bfloat16"), help="the peer has float32"
    )


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Returns the arguments, and binds the process to `--threads` cores."""
    arguments = parser.parse_args(argv)
    if getattr(arguments, "peer", None):
        if getattr(arguments, "dtype", "float32") != "float32":
            parser.error("--dtype: the peer is timed in float32 alone; drop --peer")
        if arguments.tiny:
            parser.error("--tiny: the peer has no tiny model; drop --peer")
    if arguments.threads < 0 or arguments.rounds < 1:
        parser.error("--threads must not be negative, and --rounds must be at least 1")
    if arguments.threads and not hasattr(os, "sched_setaffinity"):
        parser.error("--threads: this system cannot bind a process to cores")
    use_threads(arguments.threads)
    return arguments


def use_threads(threads: int) -> int:
    """Binds this process, and those it starts, to this number of cores; returns the number in use.

    It has to come before the first computation, when XLA makes its threads.
    """
    if threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def timed(function: Callable, *arguments) -> tuple[float, object]:
    """Calls once; returns seconds until the result is there, and the result."""
    start = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start, result


def compiled(function: Callable, *arguments) -> tuple[Callable, dict]:
    """Compiles a jitted function; returns the program, and `compile_s`, `compiled_memory_mib`."""
    lowered = function.lower(*arguments)
    start = time.perf_counter()
    program = lowered.compile()
    facts = {"compile_s": round(time.perf_counter() - start, 2)}
    if (memory := program.memory_analysis()) is not None:
        facts["compiled_memory_mib"] = {
            kind: round(getattr(memory, f"{kind}_size_in_bytes") / 2**20, 1)
            for kind in ("argument", "output", "temp")
        }
    return program, facts


def take_turns(sides: dict[str, Side], rounds: int) -> dict[str, tuple[list[float], dict]]:
    """Times each side once a round, so that whatever else the machine does meets all of them.

    The first call of a side is not counted. Returns seconds and the last counts by side.
    """
    for side in sides.values():
        side()
    seconds = {name: [] for name in sides}
    counts = {}
    for _ in range(rounds):
        for name, side in sides.items():
            elapsed, counts[name] = side()
            seconds[name].append(elapsed)
    return {name: (seconds[name], counts[name]) for name in sides}


def report(
    benchmark: str,
    case: str,
    sizes: dict,
    sides: dict[str, Side],
    rounds: int,
    *,
    facts: dict,
    per_second: int = 0,
    peer_versions: dict | None = None,
) -> list[dict]:
    """Times the sides by turns and prints a line for each; returns the lines.

    Args:
        benchmark, case: names.
        sizes: what says how much work it is.
        sides: `OURS`, and the peer's under any other names.
        rounds: timed calls of each.
        facts: of ours, as `compiled` returns them; `peak_rss_mib` where the work is done by another
            process than this one.
        per_second: images that one call handles, printed as images per second; 0: not printed.
        peer_versions: the libraries of the peer.
    """
    measured = take_turns(sides, rounds)
    lines = []
    for name, (seconds, counts) in measured.items():
        line = {"benchmark": benchmark, "case": case, "side": name, "sizes": sizes}
        line |= statistics(seconds) | {"counts": counts}
        if per_second:
            line["images_per_s"] = round(per_second / line["median_s"], 1)
        if name == OURS:
            line |= peak_memory() | facts | _against_peers(measured)
        line["machine"] = machine()
        line["versions"] = versions() if name == OURS else peer_versions
        print(json.dumps(line), flush=True)
        lines.append(line)
    return lines


def _against_peers(measured: dict[str, tuple[list[float], dict]]) -> dict:
    """Compares with the fastest of the peer's variants."""
    medians = {name: float(np.median(s)) for name, (s, _) in measured.items() if name != OURS}
    if not medians:
        return {}
    best = min(medians, key=medians.get)
    seconds, counts = measured[OURS]
    return {
        "speedup": round(medians[best] / float(np.median(seconds)), 3),
        "speedup_over": best,
        "same_work": counts == measured[best][1],
    }


def statistics(seconds: Sequence[float]) -> dict:
    low, median, high = (float(f"{q:.4g}") for q in np.quantile(seconds, (0.25, 0.5, 0.75)))
    return {"median_s": median, "quartiles_s": [low, high], "rounds": len(seconds)}


def peak_memory() -> dict:
    """Returns the peak of this process's memory and, where the backend tells, of the device's."""
    peak = {"peak_rss_mib": mebibytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)}
    in_use = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return peak | ({"peak_device_mib": round(in_use / 2**20)} if in_use else {})


def memory_in_use() -> int | None:
    """Returns the resident memory of this process in MiB; None where /proc does not tell it."""
    try:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
    except OSError:
        return None
    return round(pages * resource.getpagesize() / 2**20)


def mebibytes(maxrss: int) -> int:
    """Returns the memory that `getrusage` tells, whose unit depends on the system."""
    return round(maxrss / (2**20 if platform.system() == "Darwin" else 2**10))


def machine() -> dict:
    """Returns what the numbers depend on besides the software; the load tells if it was quiet."""
    device = jax.devices()[0]
    return {
        "processor": _processor(),
        "cores": use_threads(0),
        "device": f"{jax.device_count()} x {device.device_kind}",
        "load_1min": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict:
    names = ("jax", "jaxlib", "flax", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}
