"""The first minutes on a chip: `python -m benchmarks.accelerator [--minutes=6]`.

What it finds is one JSON line each, printed and added to `--out` as soon as it is known, so that
nothing is lost when a later section fails or time runs out: a section is begun only if it would
probably end in time. In their order, which is that of their worth (`--only` takes some of them):

- ceilings: what the chip does at best: matrix products, and a copy in its memory.
- parity: the tests against torchvision's and Detectron2's values, in float32 (in a process of its
  own), and in bfloat16 with the tolerances of tests/pretrained/test_parity_bfloat16.py.
- train_bf16_8, _2, _16, _32, train_f32_8: the training step of ResNet-50-FPN, 800x1344.
- predict_bf16_8, _1.
- peer: torchvision on the same work, by automatic mixed precision in channels_last, in turns.
- parts: each part of the step by itself.
- repeatable: whether a gradient computed twice is the same to the bit.
- nuclei: with `--nuclei=FOLDER` (a folder of images with a folder of masks each), configs/nuclei.py
  for the minutes that are left.

Programs are kept in `--cache` between calls. `--tiny` runs all of it with the smallest sizes, on
any machine: it measures nothing, and shows that it works.
"""

import argparse
import json
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path

# Room for the peer's process on the same device; it counts from JAX's first use.
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.6")

import jax

from benchmarks import measure
from benchmarks.accelerator import checks, steps
from benchmarks.accelerator.work import Work

Emit = Callable[..., None]


def sections(work: Work, arguments: argparse.Namespace) -> dict[str, tuple[float, Callable]]:
    """Returns what is measured by name: the seconds that it needs at most, and how."""

    def train(dtype, batch, seconds, **more):
        return seconds, lambda emit: steps.train(work, dtype, batch, emit, **more)

    def predict(batch, seconds):
        return seconds, lambda emit: steps.predict(work, "bfloat16", batch, emit)

    found: dict[str, tuple[float, Callable]] = {
        "ceilings": (15, lambda emit: steps.ceilings(work, emit)),
        "parity": (100, lambda emit: checks.parity(work, emit)),
        "train_bf16_8": train("bfloat16", 8, 90, profiled=True),
        "predict_bf16_8": predict(8, 30),
        "peer": (60, lambda emit: steps.peer(work, arguments.peer_python, emit)),
        "predict_bf16_1": predict(1, 25),
        "parts": (90, lambda emit: steps.parts(work, emit)),
        "train_bf16_2": train("bfloat16", 2, 80),
        "repeatable": (100, lambda emit: checks.repeatable(work, emit)),
        "train_f32_8": train("float32", 8, 80),
        "train_bf16_16": train("bfloat16", 16, 80),
        "train_bf16_32": train("bfloat16", 32, 90),
    }
    if arguments.nuclei:
        found["nuclei"] = (
            60,
            lambda emit: checks.nuclei(work, arguments.nuclei, arguments.deadline, emit),
        )
    return found


def main(argv: list[str] | None = None) -> list[dict]:
    arguments = _parsed(argv)
    arguments.deadline = time.monotonic() + 60 * arguments.minutes
    if arguments.cache:
        jax.config.update("jax_compilation_cache_dir", str(arguments.cache))
    work = Work(arguments.tiny)
    lines: list[dict] = []

    def emit_as(section: str) -> Emit:
        def emit(**facts):
            line = {"benchmark": "accelerator", "section": section} | facts
            lines.append(line)
            print(json.dumps(line), flush=True)
            if arguments.out:
                with open(arguments.out, "a") as file:
                    file.write(json.dumps(line) + "\n")

        return emit

    chosen = sections(work, arguments)
    names = arguments.only.split(",") if arguments.only else list(chosen)
    if unknown := [name for name in names if name not in chosen]:
        raise SystemExit(f"--only: unknown {', '.join(unknown)}; known: {', '.join(chosen)}")
    for name in names:
        seconds, run = chosen[name]
        emit = emit_as(name)
        if time.monotonic() + seconds * (not arguments.tiny) > arguments.deadline:
            emit(skipped=f"may take {seconds} s; give more --minutes, or --only={name}")
            continue
        try:
            run(emit)
        except Exception as error:  # what was found before must not be lost, nor what comes after
            emit(
                error=f"{type(error).__name__}: {error}"[:500], where=traceback.format_exc()[-1500:]
            )
    emit_as("end")(machine=measure.machine(), versions=measure.versions())
    return lines


def _parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=6, help="after which nothing is begun")
    parser.add_argument("--only", default="", help="names of sections, with commas between")
    parser.add_argument("--out", type=Path, help="a file that the lines are added to")
    parser.add_argument("--cache", type=Path, help="a folder for compiled programs")
    parser.add_argument("--nuclei", type=Path, help="a folder with train/ and val/ of nuclei")
    parser.add_argument(
        "--peer-python", default="python3", help="the interpreter that has torch and torchvision"
    )
    parser.add_argument("--tiny", action="store_true", help="smallest sizes: measures nothing")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
