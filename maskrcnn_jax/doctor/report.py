"""Checks that cannot harm each other, and what they have found as a page of text or as JSON."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

Facts = dict[str, str]
Check = Callable[[], Facts]


class Result(NamedTuple):
    """What one check has found.

    Attributes:
        name: of the check.
        seconds: that it took.
        facts: in words, by what they are about.
        error: what is wrong; empty where nothing is.
        is_stuck: whether it has not come to its end in time, and may still be at work.
    """

    name: str
    seconds: float
    facts: Facts
    error: str
    is_stuck: bool = False


def run(name: str, check: Check, limit: float) -> Result:
    """Runs a check in a thread of its own; whatever happens in it becomes its result.

    Args:
        name: of the check.
        check: returns facts, or raises.
        limit: seconds that it may take.
    """
    outcome: list[tuple[Facts, str]] = []

    def attempt() -> None:
        try:
            outcome.append((check(), ""))
        except BaseException as error:  # also SystemExit, of a faulty package
            outcome.append(({}, f"{type(error).__name__}: {error}"))

    began = time.perf_counter()
    thread = threading.Thread(target=attempt, name=name, daemon=True)
    thread.start()
    thread.join(limit)
    seconds = time.perf_counter() - began
    if not outcome:
        return Result(name, seconds, {}, f"it has not ended within {limit:g} s", True)
    return Result(name, seconds, *outcome[0])


def as_text(result: Result) -> str:
    """Returns a result as a few lines: the verdict, and a line for each fact."""
    verdict = f"FAIL: {result.error}" if result.error else "ok"
    lines = [f"{result.name}: {verdict}  ({result.seconds:.1f} s)"]
    lines += [f"    {key:<24} {value}" for key, value in result.facts.items()]
    return without_home("\n".join(lines))


def as_json(results: Sequence[Result]) -> str:
    """Returns all results as a JSON object, by the names of the checks."""
    content: Mapping = {
        result.name: {
            "ok": not result.error,
            "error": result.error or None,
            "seconds": round(result.seconds, 3),
            "facts": result.facts,
        }
        for result in results
    }
    return without_home(json.dumps(content, indent=1))


def summary(results: Sequence[Result]) -> str:
    """Returns the last line: how many checks have passed, and which have not."""
    failed = [result.name for result in results if result.error]
    text = f"{len(results) - len(failed)} of {len(results)} checks passed"
    return f"{text}; failed: {', '.join(failed)}" if failed else text


def without_home(text: str) -> str:
    """Returns the text with the user's folder, whose name is nobody's business, as `~`."""
    home = str(Path.home())
    return text if home == "/" else text.replace(home, "~")
