"""Flags of XLA with which the suite compiles in a third of the time."""

import importlib.util
import mmap
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_FLAG = "xla_cpu_use_fusion_emitters"
# One module for LLVM instead of up to 32: that is a seventh of a compilation.
_SPLITS = "xla_cpu_parallel_codegen_split_count"


def with_older_emitters(environment: Mapping[str, str]) -> str:
    """Returns XLA_FLAGS, by which loops for CPUs do not go through MLIR before LLVM.

    The operations are the same, and so are their results but for rounding. Only where optimizations
    are off, and where XLA has such a flag: it ends the process at one that it doesn't know.
    """
    flags = environment.get("XLA_FLAGS", "")
    is_wanted = environment.get("JAX_DISABLE_MOST_OPTIMIZATIONS") == "1" and _FLAG not in flags
    return f"{flags} --{_FLAG}=false --{_SPLITS}=1".strip() if is_wanted and _is_known() else flags


def batches_round_alike() -> bool:
    """Whether one image and two of a batch are computed by the same rules, as for users.

    The older emitters choose other orders of summation for other batches.
    """
    return f"{_FLAG}=false" not in os.environ.get("XLA_FLAGS", "")


def run_as_users_compile(test: str) -> None:
    """Runs a test in a process of its own without what makes the suite compile faster.

    Args:
        test: its file and name, as pytest takes it.
    """
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "XLA_FLAGS": ""}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", test]
    subprocess.run(command, cwd=Path(__file__).parents[1], env=environment, check=True)


def _is_known() -> bool:
    """Whether XLA's library has the flags' names."""
    library = Path(importlib.util.find_spec("jaxlib").origin).with_name("libjax_common.so")
    if not library.exists():
        return False
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return min(text.find(_FLAG.encode()), text.find(_SPLITS.encode())) >= 0
