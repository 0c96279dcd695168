"""Compiles a step for a target, and gathers what the compiler says of it."""

import re
import resource
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import jax

from maskrcnn_jax.plan import arithmetic, buffers, collectives, hlo, program
from maskrcnn_jax.plan.suspects import Suspect, suspects
from maskrcnn_jax.plan.targets import Target

LARGEST = 3


@dataclass(frozen=True)
class Bound:
    """Seconds that a step needs at minimum, if everything runs at the same time.

    Attributes:
        arithmetic: operations by the peak of the matrix units.
        memory: bytes read and written by the memory's bandwidth.
        network: bytes sent by the bandwidth of what they are sent over.
        launches: kernels by the time from one to the next (GPU).
    """

    arithmetic: float = 0.0
    memory: float = 0.0
    network: float = 0.0
    launches: float = 0.0

    @property
    def largest(self) -> float:
        return max(self.arithmetic, self.memory, self.network, self.launches)


@dataclass(frozen=True)
class StepPlan:
    """What a compiler says of a step; numbers are of one chip and one call.

    Attributes:
        name: of the step.
        images: of its batch, over all chips.
        compile_s: seconds that compiling took.
        compile_gib: peak of this process's memory by then.
        fits: whether the chip's memory is enough.
        available: bytes of it.
        refused: the compiler's words where it made no program; nothing else is known then.
        memory: bytes, by kind.
        largest: the largest of the temporary arrays at the fullest moment.
        flops: operations of convolutions and matrix products.
        traffic: bytes read from and written to the chip's memory.
        exchanged: by axes of the mesh, kind and dtype: number, size and sent bytes.
        bound: by published figures, on a GPU with an assumed time for launches.
        estimate: seconds by the TPU compiler's estimates, None where it makes none.
        without_estimate: instructions that take long and are not in the estimate.
        kernels: that a GPU is asked to start; 0 for a TPU.
        suspects: suspicious instructions.
    """

    name: str
    images: int
    compile_s: float
    compile_gib: float
    fits: bool
    available: int
    refused: str = ""
    memory: program.Memory | None = None
    largest: list[buffers.Buffer] = field(default_factory=list)
    flops: float = 0.0
    traffic: int = 0
    exchanged: dict[tuple[str, str, str], dict[str, int]] = field(default_factory=dict)
    bound: Bound = Bound()
    estimate: float | None = None
    without_estimate: int = 0
    kernels: int = 0
    suspects: list[Suspect] = field(default_factory=list)

    @property
    def step_s(self) -> float:
        """Seconds that it takes at the least: the bound, or the estimate where that is more."""
        return max(self.bound.largest, self.estimate or 0.0)

    def as_json(self) -> dict[str, Any]:
        """Returns everything as values of JSON."""
        exchanged = [
            {"axes": axes, "kind": kind, "dtype": dtype, **numbers}
            for (axes, kind, dtype), numbers in self.exchanged.items()
        ]
        values = asdict(self) | {"exchanged": exchanged, "step_s": self.step_s}
        if self.memory:
            values["memory"]["total"] = self.memory.total
        return values


def analyse(
    name: str,
    lowered: jax.stages.Lowered,
    images: int,
    target: Target,
    mesh: dict[str, int],
    dtype: str,
) -> tuple[StepPlan, str]:
    """Compiles a step; returns what is to be said of it, and the optimised program's text.

    Args:
        name: of the step.
        lowered: as `steps` returns it.
        images: of its batch, over all chips.
        target: the chips.
        mesh: sizes of the mesh's axes, in their order.
        dtype: of its convolutions.

    Raises:
        jax.errors.JaxRuntimeError: the compiler fails for another reason than memory.
    """
    start = time.perf_counter()
    chip = target.chip
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        words = re.sub(r"^RESOURCE_EXHAUSTED: ", "", str(error)).split("\n")[0]
        return StepPlan(name, images, *_cost(start), False, chip.memory, words), ""
    cost = _cost(start)
    text = compiled.as_text() or ""
    parsed, memory = hlo.parse(text), program.memory(compiled)
    exchanged = collectives.exchanges(parsed, mesh)
    flops, traffic = arithmetic.flops(parsed), program.traffic(parsed)
    cycles = program.estimated_cycles(parsed)
    kernels = program.launches(parsed) if chip.launch else 0
    return StepPlan(
        name,
        images,
        *cost,
        fits=memory.total <= chip.memory,
        available=chip.memory,
        memory=memory,
        largest=buffers.at_peak(parsed)[:LARGEST],
        flops=flops,
        traffic=traffic,
        exchanged=collectives.summed(exchanged),
        bound=Bound(
            flops / (chip.flops * (chip.float32 if dtype == "float32" else 1.0)),
            traffic / chip.bandwidth,
            sum(one.times * one.sent / _bandwidth(one, target) for one in exchanged),
            kernels * chip.launch,
        ),
        estimate=cycles / chip.clock if chip.clock else None,
        without_estimate=program.without_estimate(parsed) if chip.clock else 0,
        kernels=kernels,
        suspects=suspects(parsed),
    ), text


def _cost(start: float) -> tuple[float, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    return round(time.perf_counter() - start, 1), round(peak, 2)


def _bandwidth(exchange: collectives.Exchange, target: Target) -> float:
    """Returns the bytes/s at which a chip sends to the others of a group."""
    chip = target.chip
    hosts = {device // chip.host for device in exchange.group}
    return chip.network if chip.network and len(hosts) > 1 else chip.links
