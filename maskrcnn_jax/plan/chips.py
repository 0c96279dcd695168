"""The chips that programs can be compiled for, with the figures that their makers publish.

Sources, read in November 2026:

- TPU: Google's pages of the versions, https://docs.cloud.google.com/tpu/docs/v4, .../v5e,
  .../v5p, .../v6e: peak in bfloat16, capacity and bandwidth of the memory, bandwidth between chips
  (given for both directions together or in Gbit/s one way; here it is one way), chips of a host.
- TPU memory: what libtpu 0.0.42 says is free for a program, which is less than the capacity.
- TPU clock: the peak divided by what the matrix units do in a cycle (v5e: 4 of 128x128, so
  197e12 / (4 x 128^2 x 2) = 1.5 GHz). v6e's is assumed to be v5p's.
- GPU: NVIDIA's data sheets of the SXM modules, dense bfloat16, https://www.nvidia.com/en-us/
  data-center/h100/ and .../a100/; NVLink one way; a network adapter of 400 (H100) or 200 Gbit/s
  (A100) for each GPU, as DGX machines have. What the compiler wants to know of a GPU is in
  https://github.com/openxla/xla/tree/main/xla/backends/gpu/target_config/specs.
- GPU memory: three quarters of it, which JAX takes unless XLA_PYTHON_CLIENT_MEM_FRACTION says
  otherwise.

- Kernels: what a GPU spends between two of them, at the least, 2 us, is assumed, not published.

float32 convolutions and products run on the same units: on a TPU as bfloat16 by JAX's default
precision, on a GPU as TF32 at half the rate.
"""

from dataclasses import dataclass, field

_GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """A kind of chip.

    Attributes:
        name: as `--target` takes it.
        platform: tpu or cuda.
        memory: bytes that a program can have.
        flops: of the peak in bfloat16, 1/s.
        float32: fraction of that peak which float32 convolutions reach.
        bandwidth: of the memory, bytes/s.
        links: bytes/s that a chip sends to others of its slice or host, all links together.
        network: bytes/s that a chip sends to other hosts where they are not of one slice; 0: all
            are of one slice.
        host: chips of a host.
        launch: seconds from one kernel to the next (GPU).
        clock: cycles/s of the compiler's estimates; 0: it makes none.
        topology: axes of a slice (TPU).
        facts: what the compiler wants to know (GPU).
    """

    name: str
    platform: str
    memory: int
    flops: float
    float32: float
    bandwidth: float
    links: float
    host: int
    network: float = 0.0
    launch: float = 0.0
    clock: float = 0.0
    topology: int = 0
    facts: dict[str, str] = field(default_factory=dict)


def _tpu(name: str, memory: float, tflops: float, gb: float, links: float, clock: float) -> Chip:
    axes = 2 if name.endswith("e") else 3
    return Chip(
        name, "tpu", int(memory * _GIB), tflops * 1e12, 1.0, gb * 1e9, links * 1e9, 4,
        clock=clock, topology=axes,
    )  # fmt: skip


_H100 = {
    "name": "NVIDIA H100 80GB HBM3", "major": "9", "feature": "ACCELERATED_FEATURES",
    "cores": "132", "fpus": "128", "shared_core": "233472", "shared_optin": "232448",
    "bandwidth": "3352320000000", "l2": "52428800", "clock": "1.98", "memory": "84942979072",
}  # fmt: skip
_A100 = {
    "name": "NVIDIA A100-SXM4-80GB", "major": "8", "feature": "NONE",
    "cores": "108", "fpus": "64", "shared_core": "167936", "shared_optin": "166912",
    "bandwidth": "2039040000000", "l2": "41943040", "clock": "1.41", "memory": "85100068864",
}  # fmt: skip


def _gpu(name: str, tflops: float, gb: float, links: float, network: float, facts: dict) -> Chip:
    memory = int(0.75 * int(facts["memory"]))
    return Chip(
        name, "cuda", memory, tflops * 1e12, 0.5, gb * 1e9, links * 1e9, 8,
        network=network * 1e9, launch=2e-6, facts=facts,
    )  # fmt: skip


CHIPS = {
    chip.name: chip
    for chip in (
        _tpu("v4", 31.75, 275, 1200, 300, 1.05e9),
        _tpu("v5e", 15.75, 197, 819, 200, 1.5e9),
        _tpu("v5p", 95.0, 459, 2765, 600, 1.75e9),
        _tpu("v6e", 31.25, 918, 1600, 400, 1.75e9),
        _gpu("a100", 312, 2039, 300, 25, _A100),
        _gpu("h100", 989, 3352, 450, 50, _H100),
    )
}
