"""Looks at everything that a run depends on; the first thing to put into a bug report.

    python -m maskrcnn_jax.doctor
    python -m maskrcnn_jax.doctor --config=coco --workdir=runs/coco
    srun python -m maskrcnn_jax.doctor --distributed=auto

Each check stands alone: a fault is reported as FAIL with its reason, and the others go
on. The exit status is 1 where one has failed. With several processes, which are given to it as to
train.py, it is started as often as train.py, and the sum is over the devices of all of them.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from maskrcnn_jax import config_flags
from maskrcnn_jax.cli import command, process_flags
from maskrcnn_jax.console import program
from maskrcnn_jax.doctor import environment, report

# Seconds that a check may take; that of the processes has a time-out of its own.
_LIMIT = 300.0
_LIMIT_TO_JOIN = 3600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options, others = _parser().parse_known_args(arguments)
    results: list[report.Result] = []

    def work() -> int:
        for name, check in _checks(options, config_flags.only_keys(others)).items():
            limit = _LIMIT_TO_JOIN if name == "processes" else options.limit
            with contextlib.redirect_stdout(sys.stderr):  # what libraries print is no report
                results.append(report.run(name, check, limit))
            if not options.json:
                print(report.as_text(results[-1]), flush=True)
        print(report.as_json(results) if options.json else report.summary(results), flush=True)
        return int(any(result.error for result in results))

    status = command.status_of(work, options.debug)
    if any(result.is_stuck for result in results):
        command.leave(status)  # its thread would keep the process from ending
    return status


def _parser() -> argparse.ArgumentParser:
    parser = command.parser(__doc__, program("doctor"))
    command.add_config(parser)
    parser.add_argument("--workdir", metavar="DIR", type=Path, help="the folder of a run")
    command.add_cache(parser)
    parser.add_argument("--no-steps", action="store_true", help="leave the ten steps out")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument(
        "--limit",
        type=float,
        default=_LIMIT,
        metavar="SECONDS",
        help=f"in which a check has to end ({_LIMIT:g})",
    )
    process_flags.add_arguments(parser)
    return parser


def _checks(options: argparse.Namespace, keys: list[str]) -> dict[str, report.Check]:
    """Returns the checks by name, in their order; what they need is imported by themselves."""

    def of(module: str, function: str, *arguments) -> report.Check:
        return lambda: getattr(import_module(f"maskrcnn_jax.doctor.{module}"), function)(*arguments)

    is_several = process_flags.are_given(options)
    cluster = partial(process_flags.cluster, options) if is_several else None
    checks = {
        "versions": environment.versions,
        "machine": environment.machine,
        "environment": environment.variables,
        "processes": of("processes", "join", cluster),
        "devices": of("devices", "devices"),
        "compilation cache": of("settings", "compilation_cache", options.compilation_cache),
        "collective": of("devices", "collective"),
        "scatter": of("devices", "scatter"),
        "bfloat16": of("devices", "bfloat16"),
        "tensorflow": of("devices", "tensorflow"),
    }
    if options.config or keys:
        checks["recipe"] = of("settings", "recipe", options.config, keys)
    if options.workdir:
        checks["work directory"] = of("settings", "workdir", options.workdir)
    if not options.no_steps:
        checks["ten steps"] = of("timing", "timing")
    if is_several:
        checks["end"] = of("processes", "leave")
    return checks
