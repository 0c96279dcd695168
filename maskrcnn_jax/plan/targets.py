"""The chips of `--target`, as devices that programs can be compiled for.

TPU: `v5e:4x4` is a slice of 16 chips, `v5e` or `v5e:1` one chip. GPU: `h100:8` is one host of 8,
`h100:16` two, and `h100` one GPU.
"""

import contextlib
import difflib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import jax
from jax.experimental import topologies

from maskrcnn_jax.plan.chips import CHIPS, Chip

EXTRA = "pip install -r requirements-plan.txt"
_PLUGINS = {"tpu": ("libtpu",), "cuda": ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")}
# What a compiler reads about a GPU in place of asking one, as protobuf's text.
_GPU_FACTS = """
gpu_device_info {{
  cuda_compute_capability {{ major: {major} feature_extension: {feature} }}
  core_count: {cores} fpus_per_core: {fpus} threads_per_warp: 32
  threads_per_block_limit: 1024 threads_per_core_limit: 2048
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  shared_memory_per_block: 49152 shared_memory_per_core: {shared_core}
  shared_memory_per_block_optin: {shared_optin}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: {bandwidth} l2_cache_size: {l2}
  clock_rate_ghz: {clock} device_memory_size: {memory}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{name}"
"""


@dataclass(frozen=True)
class Target:
    """Chips of one kind.

    Attributes:
        chip: the kind.
        shape: chips along each axis of a TPU slice; of GPUs, (hosts, GPUs of each).
    """

    chip: Chip
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of chips."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """As `parse` takes it."""
        if self.count == 1:
            return self.chip.name
        is_tpu = self.chip.platform == "tpu"
        sizes = "x".join(map(str, self.shape)) if is_tpu else str(self.count)
        return f"{self.chip.name}:{sizes}"


def parse(text: str) -> Target:
    """Returns the chips that `--target` names.

    Raises:
        ValueError: there is no such kind or shape; the message has what there is.
    """
    name, _, sizes = text.strip().lower().partition(":")
    if name not in CHIPS:
        near = difflib.get_close_matches(name, CHIPS, n=2, cutoff=0.5)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"--target={text}: unknown chip; {guess}known: {', '.join(CHIPS)}")
    chip = CHIPS[name]
    numbers = sizes.split("x") if sizes else ["1"]
    if not all(number.isdigit() and int(number) > 0 for number in numbers):
        raise ValueError(f"--target={text}: {sizes!r} is no size; {_expected(chip)}")
    shape = tuple(int(number) for number in numbers)
    return Target(chip, _gpu_shape(text, shape, chip) if chip.facts else _slice(text, shape, chip))


def _expected(chip: Chip) -> str:
    if chip.facts:
        return f"give the number of GPUs, such as {chip.name}:8"
    example = "4x4" if chip.topology == 2 else "2x2x2"
    return f"give a slice of {chip.topology} axes, such as {chip.name}:{example}, or one chip"


def _gpu_shape(text: str, shape: tuple[int, ...], chip: Chip) -> tuple[int, ...]:
    count = shape[0]
    if len(shape) > 1 or (count > chip.host and count % chip.host):
        raise ValueError(
            f"--target={text}: {_expected(chip)}; more than {chip.host} are whole hosts"
        )
    return (1, count) if count <= chip.host else (count // chip.host, chip.host)


def _slice(text: str, shape: tuple[int, ...], chip: Chip) -> tuple[int, ...]:
    if math.prod(shape) == 1:
        return (1,) * chip.topology
    if len(shape) != chip.topology:
        raise ValueError(f"--target={text}: {_expected(chip)}")
    if any(size % 2 for size in shape[:2]):
        raise ValueError(f"--target={text}: hosts have 2x2 chips; the first two sizes must be even")
    return shape


def devices(target: Target) -> list[jax.Device]:
    """Returns devices that programs can be compiled for, and none can run on.

    It has to come before JAX's first computation of the process, which happens on the CPU.

    Raises:
        ValueError: the compiler for them is not installed, or refuses the shape.
    """
    platform = target.chip.platform
    check_installed(platform)
    jax.config.update("jax_platforms", "cpu")
    # libtpu would ask the cloud which TPU this is, and refuse a second process.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        with _quiet():
            topology = _tpu_topology(target) if platform == "tpu" else _gpu_topology(target)
    except (RuntimeError, NotImplementedError) as error:
        raise ValueError(f"--target={target.name}: the compiler refuses it: {error}") from error
    return list(topology.devices)


def check_installed(platform: str) -> None:
    """Checks that a compiler for a platform is installed.

    Raises:
        ValueError: with the command that installs it.
    """
    if not any(_is_installed(module) for module in _PLUGINS[platform]):
        kind = "TPUs (libtpu)" if platform == "tpu" else "GPUs (jax-cuda13-plugin)"
        raise ValueError(f"the compiler for {kind} is not installed: {EXTRA}")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package around it
        return False


def _tpu_topology(target: Target) -> topologies.TopologyDescription:
    options: dict = {"chips_per_host_bounds": (1, 1, 1)} if target.count == 1 else {}
    if target.chip.name == "v4":  # its two cores are one device
        options["chip_config_name"] = "megacore"
    name = f"{target.chip.name}:{'x'.join(map(str, target.shape))}"
    return topologies.get_topology_desc(name, "tpu", **options)


def _gpu_topology(target: Target) -> topologies.TopologyDescription:
    hosts, gpus = target.shape
    return topologies.get_topology_desc(
        "gpus",
        "cuda",
        topology=f"1x{hosts}x{gpus}",
        target_config=_GPU_FACTS.format(**target.chip.facts),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what libtpu writes to stderr about there being no TPU from the user."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
