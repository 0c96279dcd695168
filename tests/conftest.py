"""Options, shared folders and the compilation cache of the test suite."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax
import pytest

ROOT = Path(__file__).resolve().parents[1]

# Compilation dominates the suite: programs are kept between runs.
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax-tests"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def pytest_addoption(parser):
    parser.addoption(
        "--parity",
        default=str(ROOT.parent / "shared" / "parity"),
        help="folder with ops.npz and mrcnn_*.npz, the reference values",
    )
    parser.addoption(
        "--datasets",
        default=str(ROOT.parent / "shared" / "data"),
        help="folder with the real data sets",
    )


@pytest.fixture(scope="session")
def parity_dir(request) -> Path:
    """The folder of reference values; skips where it is absent."""
    folder = Path(request.config.getoption("--parity"))
    if not folder.is_dir():
        pytest.skip(f"{folder} not found; give the folder of reference values as --parity=DIR")
    return folder


@pytest.fixture(scope="session")
def datasets_dir(request) -> Path:
    """The folder of real data sets; skips where it is absent."""
    folder = Path(request.config.getoption("--datasets"))
    if not folder.is_dir():
        pytest.skip(f"{folder} not found; give the folder of data sets as --datasets=DIR")
    return folder
