"""What the programs run on: versions, the machine, the variables that change what they do.

Nothing here imports JAX or TensorFlow, so that it works where these are broken.
"""

import os
import platform
import shutil
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pycocotools",
    "opencv-python-headless", "pillow", "ml_collections", "tensorboard",
)  # fmt: skip
_OPTIONAL = (
    "tensorflow-cpu", "tensorflow", "tensorflow-datasets", "jax-cuda13-plugin",
    "jax-cuda12-plugin", "libtpu", "torch", "hotcoco",
)  # fmt: skip

_VARIABLES = (
    "CUDA_", "HIP_", "JAX_", "LIBTPU_", "LD_LIBRARY_PATH", "LD_PRELOAD", "MASKRCNN_JAX_", "MKL_NUM",
    "NCCL_", "NVIDIA_VISIBLE_DEVICES", "OMP_", "OPENBLAS_NUM", "PYTHONPATH", "ROCR_",
    "SLURM_JOB_ID", "SLURM_NNODES", "SLURM_NTASKS", "SLURM_PROCID", "TF_CPP_", "TF_ENABLE_",
    "TF_FORCE_GPU_", "TF_GPU_", "TF_NUM_", "TF_XLA_", "TPU_", "XLA_",
)  # fmt: skip
_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")

# What tells that a cluster has started this process.
_CLUSTERS = {
    "Slurm": "SLURM_JOB_ID",
    "Open MPI": "OMPI_COMM_WORLD_SIZE",
    "Cloud TPU": "TPU_WORKER_HOSTNAMES",
    "Kubernetes": "KUBERNETES_SERVICE_HOST",
}


def versions() -> dict[str, str]:
    """Returns the versions of Python, the packages and this project.

    Raises:
        ModuleNotFoundError: naming the packages that are needed and absent.
    """
    found = {"python": platform.python_version(), "maskrcnn_jax": _own_version()}
    missing = []
    for name in (*_PACKAGES, *_OPTIONAL):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if needed := [name for name in missing if name not in _OPTIONAL]:
        raise ModuleNotFoundError(
            f"not installed: {', '.join(needed)}; python -m pip install -r requirements-light.txt"
        )
    return found


def _own_version() -> str:
    try:
        version = metadata.version("maskrcnn-jax")
    except metadata.PackageNotFoundError:
        version = "not installed, used from its folder"
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return version
    commit = _git("rev-parse", "--short=12", "HEAD")
    changed = ", with changes" if _git("status", "--porcelain", "--untracked-files=no") else ""
    return f"{version}, commit {commit or 'unknown'}{changed}"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return result.stdout.strip()


def machine() -> dict[str, str]:
    """Returns the system, its cores and its memory."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {
        "system": platform.platform(),
        "cores": f"{usable} of {os.cpu_count()} for this process",
    }
    if total := _total_memory():
        facts["memory"] = f"{total / 2**30:.1f} GiB"
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdecimal():
        facts["memory limit"] = f"{int(text) / 2**30:.1f} GiB (of the container)"
    return facts


def _total_memory() -> int:
    """Returns bytes, 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return 0


def variables() -> dict[str, str]:
    """Returns the environment variables that change what JAX, TensorFlow and this project do."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith(_VARIABLES) and not any(word in name.upper() for word in _SECRET)
    }


def clusters() -> list[str]:
    """Returns what seems to have started this process among others."""
    return [name for name, variable in _CLUSTERS.items() if variable in os.environ]


def folder(path: Path) -> dict[str, str]:
    """Returns whether a folder can be written, and the room on its disk.

    Args:
        path: need not exist.

    Raises:
        OSError: where nothing can be written there.
    """
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    with tempfile.TemporaryFile(dir=existing) as probe:
        probe.write(b"x")
    free = shutil.disk_usage(existing).free
    exists = "" if existing == path else ", to be made"
    return {"folder": f"{path}{exists}", "free": f"{free / 2**30:.1f} GiB"}
