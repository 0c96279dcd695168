"""What processes print: once for all of them, or each with its number."""

import sys

import jax

from maskrcnn_jax.parallel import processes


def say(text: str) -> None:
    """Prints, from the first process alone."""
    if jax.process_index() == 0:
        print(text, flush=True)


def say_of_all(text: str) -> None:
    """Prints what each process has to say for itself, with its number where there are several."""
    print(f"{processes.name()}{text}", flush=True)


def warn(text: str) -> None:
    """Prints to stderr what has gone wrong and does not end the run."""
    print(f"\nWARNING: {processes.name()}{text}\n", file=sys.stderr, flush=True)
