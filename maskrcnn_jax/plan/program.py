"""What a compiled program says of itself: memory, traffic, kernels and estimated time.

Programs for several devices are compiled as one that each of them runs on its own part, so every
number here is for one device.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax

from maskrcnn_jax.plan import hlo

# These make nothing run: they name what is there, or wait for what was started.
_NAMES = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "iota", "opt-barrier"),
    *("while", "call", "conditional", "partition-id", "replica-id", "after-all"),
    *("copy-done", "async-done", "async-update", "send-done", "recv-done"),
    *("all-reduce-done", "all-gather-done", "collective-permute-done"),
)
# Numbers that one kernel of XLA's bitonic sort on a GPU holds in shared memory.
_SORT_TILE = 12


@dataclass(frozen=True)
class Memory:
    """Bytes of a device.

    Attributes:
        arguments: of the program.
        outputs: in memory of their own; what takes the place of an argument is not among them.
        temporaries: what comes and goes while it runs.
        code: the program itself; 0 where the compiler does not tell.
    """

    arguments: int
    outputs: int
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        return self.arguments + self.outputs + self.temporaries + self.code


def memory(compiled: jax.stages.Compiled) -> Memory:
    """Returns what a compiled program needs."""
    analysis: Any = compiled.memory_analysis()
    return Memory(
        analysis.argument_size_in_bytes,
        max(analysis.output_size_in_bytes - analysis.alias_size_in_bytes, 0),
        analysis.temp_size_in_bytes,
        analysis.generated_code_size_in_bytes,
    )


def estimated_cycles(program: hlo.Program) -> int:
    """Returns the cycles of a call by the TPU compiler's estimates, 0 where it makes none.

    Loops count as often as they run. Gathers, scatters, sorts and whatever else has no estimate
    count as nothing, loops of unknown length once: the sum is a lower bound.
    """
    return sum(
        run.times * (instruction.cycles or 0)
        for run in hlo.runs(program)
        for instruction in run.computation
    )


def without_estimate(program: hlo.Program) -> int:
    """Returns how many instructions of those that take long have no estimate of cycles."""
    return sum(
        run.times
        for run in hlo.runs(program)
        for instruction in run.computation
        if instruction.cycles is None
        and (
            instruction.opcode == "custom-call"
            or any(inside(program, instruction, slow) for slow in ("gather", "scatter", "sort"))
        )
    )


def launches(program: hlo.Program) -> int:
    """Returns how many kernels a call starts, as far as the program tells.

    An instruction of a library counts as one. Loops count as often as they run, those of unknown
    length once.
    """
    return sum(
        run.times * _kernels(program, instruction)
        for run in hlo.runs(program)
        for instruction in run.computation
        if instruction.opcode not in _NAMES
    )


def _kernels(program: hlo.Program, instruction: hlo.Instruction) -> int:
    """Returns the kernels of an instruction: one, except for a sort (`GpuSort` of XLA)."""
    sorts = inside(program, instruction, "sort")
    return _sort_kernels(sorts[0]) if sorts else 1


def _sort_kernels(sort: hlo.Instruction) -> int:
    """Stages whose partners are further apart than a tile have kernels of their own."""
    axis = int(sort.attributes.split("dimensions={")[1].split("}")[0])
    stages = math.ceil(math.log2(max(sort.arrays[0].sides[axis], 2)))
    beyond = max(stages - _SORT_TILE, 0)
    return beyond * (beyond + 1) // 2 + beyond + 1


def inside(program: hlo.Program, instruction: hlo.Instruction, opcode: str) -> list:
    """Returns the instructions of a kind that one is or, as a fusion, has inside.

    Args:
        program: the whole.
        instruction: any.
        opcode: the kind.
    """
    if instruction.opcode == opcode:
        return [instruction]
    if instruction.opcode != "fusion":
        return []
    fused = program.computations[instruction.called("calls")[0]]
    return [found for inner in fused for found in inside(program, inner, opcode)]


def traffic(program: hlo.Program) -> int:
    """Returns the bytes that a call reads from and writes to the chip's main memory.

    Each instruction reads its operands and writes its results once; of what it only takes slices
    of, the slices. What stays in a memory inside of the chip does not count, and loops count as
    often as they run, those of unknown length once.
    """
    return sum(
        run.times * _instruction_bytes(program, run.computation, instruction)
        for run in hlo.runs(program)
        for instruction in run.computation
        if instruction.opcode not in _NAMES
    )


def _instruction_bytes(
    program: hlo.Program, computation: hlo.Computation, instruction: hlo.Instruction
) -> int:
    written = sum(array.size for array in instruction.results if not array.on_chip)
    sliced = _sliced(program, instruction)
    read = 0
    for place, name in enumerate(instruction.operands):
        operand = computation.instructions.get(name)
        if operand is None:
            continue
        whole = sum(array.size for array in operand.arrays if not array.on_chip)
        read += min(whole, sliced.get(place, whole))
    return read + written


def _sliced(program: hlo.Program, instruction: hlo.Instruction) -> dict[int, int]:
    """Returns, for operands of which only parts are read, the bytes of these."""
    if instruction.opcode in ("gather", "dynamic-slice"):
        return {0: sum(array.size for array in instruction.arrays)}
    if instruction.opcode != "fusion":
        return {}
    fused = program.computations[instruction.called("calls")[0]]
    found: dict[int, int] = {}
    for parameter in fused:
        if parameter.opcode != "parameter":
            continue
        users = [user for user in fused if parameter.name in user.operands]
        if users and all(
            user.opcode in ("gather", "dynamic-slice") and user.operands[0] == parameter.name
            for user in users
        ):
            read = sum(array.size for user in users for array in user.arrays)
            found[int(parameter.literal)] = read
    return found
