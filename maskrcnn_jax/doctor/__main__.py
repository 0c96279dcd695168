"""Looks at everything that a run depends on; the first thing to put into a bug report.

    python -m maskrcnn_jax.doctor
    python -m maskrcnn_jax.doctor --config=configs/coco.py --workdir=runs/coco
    srun python -m maskrcnn_jax.doctor --distributed=auto

Each check is by itself: what is wrong with one is told as FAIL with its reason, and the others go
on. The exit status is 1 where one has failed. With several processes, which are given to it as to
train.py, it is started as often as train.py, and the sum is over the devices of all of them.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from maskrcnn_jax.doctor import environment, report

# Seconds that a check may take; that of the processes has a time-out of its own.
_LIMIT = 300.0
_LIMIT_TO_JOIN = 3600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options, others = _parser().parse_known_args(arguments)
    keys = [argument for argument in others if argument.startswith("--config.")]
    cluster = [argument for argument in others if argument not in keys]
    results = []
    try:
        for name, check in _checks(options, keys, cluster).items():
            limit = _LIMIT_TO_JOIN if name == "processes" else options.limit
            with contextlib.redirect_stdout(sys.stderr):  # what libraries print is no report
                results.append(report.run(name, check, limit))
            if not options.json:
                print(report.as_text(results[-1]), flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(report.as_json(results) if options.json else report.summary(results), flush=True)
    status = int(any(result.error for result in results))
    if any(result.is_stuck for result in results):
        os._exit(status)  # its thread would keep the process from ending
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m maskrcnn_jax.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="and --config.KEY=VALUE, and the flags of train.py for several processes",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="a recipe, which is held to the devices")
    parser.add_argument("--workdir", metavar="DIR", type=Path, help="the folder of a run")
    parser.add_argument("--compilation_cache", metavar="DIR", help="as of train.py")
    parser.add_argument("--no-steps", action="store_true", help="leave the ten steps out")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument(
        "--limit",
        type=float,
        default=_LIMIT,
        metavar="SECONDS",
        help=f"in which a check has to end ({_LIMIT:g})",
    )
    return parser


def _checks(
    options: argparse.Namespace, keys: list[str], cluster: list[str]
) -> dict[str, report.Check]:
    """Returns the checks by name, in their order; what they need is imported by themselves."""

    def of(module: str, function: str, *arguments) -> report.Check:
        return lambda: getattr(import_module(f"maskrcnn_jax.doctor.{module}"), function)(*arguments)

    checks = {
        "versions": environment.versions,
        "machine": environment.machine,
        "environment": environment.variables,
        "processes": of("processes", "join", cluster),
        "devices": of("devices", "devices"),
        "compilation cache": of("settings", "compilation_cache", options.compilation_cache),
        "collective": of("devices", "collective"),
        "bfloat16": of("devices", "bfloat16"),
        "tensorflow": of("devices", "tensorflow"),
    }
    if options.config or keys:
        file = [f"--config={options.config}"] if options.config else []
        checks["recipe"] = of("settings", "recipe", [*file, *keys])
    if options.workdir:
        checks["work directory"] = of("settings", "workdir", options.workdir)
    if not options.no_steps:
        checks["ten steps"] = of("timing", "timing")
    if cluster:
        checks["end"] = of("processes", "leave")
    return checks


if __name__ == "__main__":
    sys.exit(main())
