"""Correctness on the device: parity, repeatable gradients, and a short training run."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from benchmarks import detector
from benchmarks.accelerator.work import Work
from maskrcnn_jax.models.build import make_model

ROOT = Path(__file__).resolve().parents[2]
PARITY = ("torchvision", "detectron2", "bfloat16")

Emit = Callable[..., None]


def parity(work: Work, emit: Emit) -> None:
    """The project's own parity tests, on this device; each file in a process of its own."""
    for kind in PARITY[-1:] if work.tiny else PARITY:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line"]
        command += [
            f"tests/pretrained/test_parity_{kind}.py",
            "-m",
            "not slow" if work.tiny else "",
        ]
        # Both processes share the device: this one asks for memory as it needs it.
        environment = os.environ | {
            "JAX_PLATFORMS": "",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        result = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        lines = result.stdout.strip().splitlines()
        failures = [line[-300:] for line in lines if "Error" in line][:10]
        emit(against=kind, status=result.returncode, summary=lines[-1:], failures=failures)


def repeatable(work: Work, emit: Emit) -> None:
    """Whether the gradient of a batch is the same to the bit when it is computed again."""
    for deterministic in (False, True):
        config = work.config("bfloat16", 2)
        model = make_model(config.model, detector.NUM_CLASSES, deterministic=deterministic)
        variables = jax.device_put(detector.random_variables(config.model, detector.NUM_CLASSES))
        batch = jax.device_put(work.batch(config))

        def total(params, model=model, variables=variables, batch=batch):
            arguments = {**variables, "params": params}, batch, jax.random.key(0)
            losses, _ = model.apply(*arguments, method="losses", mutable=["batch_stats"])[0]
            return losses["loss_total"]

        gradient = jax.jit(jax.grad(total))
        first, second = (jax.device_get(gradient(variables["params"])) for _ in range(2))
        pairs = list(zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))
        emit(
            deterministic=deterministic,
            same_to_the_bit=all((a == b).all() for a, b in pairs),
            leaves_that_differ=sum(not (a == b).all() for a, b in pairs),
            largest_difference=max(float(np.abs(a - b).max()) for a, b in pairs),
        )


def nuclei(work: Work, folder: Path, deadline: float, emit: Emit) -> None:
    """configs/nuclei.py for the time that is left, with an evaluation at its end."""
    left = deadline - time.monotonic()
    with tempfile.TemporaryDirectory() as workdir:
        command = [
            sys.executable, "train.py", "--config=nuclei", f"--workdir={workdir}",
            f"--config.data.train.folder={folder}/train", f"--config.data.val.folder={folder}/val",
            "--config.model.dtype=bfloat16",
        ]  # fmt: skip
        command += ["--config.train.steps=2"] if work.tiny else []
        begin = time.monotonic()
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        try:
            status = subprocess.run(
                command, cwd=ROOT, env=environment, timeout=left, capture_output=True, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            status = None  # stopped in the middle, as planned
        metrics = [json.loads(line) for file in Path(workdir).glob("metrics*.jsonl")
                   for line in file.read_text().splitlines()]  # fmt: skip
        emit(
            status=status, seconds=round(time.monotonic() - begin, 1), last=metrics[-2:],
        )  # fmt: skip
