"""What is suspicious in a compiled program: instructions that accelerators are slow at.

- sort: many passes over its array; on a GPU dozens of kernels.
- scatter: on a TPU one row after the other; on a GPU atomic additions in any order.
- loop of unknown length: on a GPU the host waits for a flag before each round.
- large gather: an array of gathered rows that lies in memory before it is used.
- relayout: a copy or transpose of a large array, which computes nothing.
"""

from dataclasses import dataclass

from maskrcnn_jax.plan import hlo
from maskrcnn_jax.plan.program import inside

KINDS = ("sort", "scatter", "loop of unknown length", "large gather", "relayout")
# Bytes from which on a gather or a relayout counts as large.
LARGE = 8 * 2**20
_RELAYOUTS = ("copy", "transpose", "reshape")
# What a fusion may do to gathered rows without using them.
_PASSES_ON = ("bitcast", "reshape", "transpose", "copy", "convert")


@dataclass(frozen=True)
class Suspect:
    """An instruction that is suspicious.

    Attributes:
        kind: of `KINDS`.
        instruction: its name in the program.
        op_name: where it comes from in the traced function.
        shape: of the largest of its results.
        size: bytes of all of them.
        times: how often it runs in a call; in a loop of unknown length, per round.
    """

    kind: str
    instruction: str
    op_name: str
    shape: str
    size: int
    times: int


def suspects(program: hlo.Program) -> list[Suspect]:
    """Returns what is suspicious in a program, kind by kind, the largest first.

    Args:
        program: optimised, as `hlo.parse` returns it.
    """
    found = [
        _suspect(kind, part, run.times)
        for run in hlo.runs(program)
        for instruction in run.computation
        for kind, part in _kinds(program, run.computation, instruction)
    ]
    return sorted(found, key=lambda s: (KINDS.index(s.kind), -s.size * s.times))


def number_of_each(found: list[Suspect]) -> dict[str, int]:
    """Returns how many instructions there are of each kind, 0 included."""
    return {kind: sum(suspect.kind == kind for suspect in found) for kind in KINDS}


def _kinds(program: hlo.Program, computation: hlo.Computation, instruction: hlo.Instruction):
    """Yields each kind that an instruction is of, with the instruction that it is for."""
    for kind in ("sort", "scatter"):
        yield from ((kind, part) for part in inside(program, instruction, kind))
    if instruction.opcode == "custom-call" and "TopK" in instruction.attributes:
        yield "sort", instruction
    if instruction.opcode == "while":
        if hlo.trip_count(program, computation, instruction) is None:
            yield "loop of unknown length", instruction
        return
    if _size(instruction) < LARGE:
        return
    if _gives_gathered_rows(program, instruction):
        yield "large gather", instruction
    elif instruction.opcode in _RELAYOUTS or _only_moves(program, instruction):
        yield "relayout", instruction


def _gives_gathered_rows(program: hlo.Program, instruction: hlo.Instruction) -> bool:
    """Returns whether a result is what a gather has read, maybe with another layout or type."""
    if instruction.opcode == "gather":
        return True
    if instruction.opcode != "fusion":
        return False
    fused = program.computations[instruction.called("calls")[0]]
    root = fused.instructions[fused.root]
    results = root.operands if root.opcode == "tuple" else (root.name,)
    return any(_is_gathered(program, fused, fused.instructions[name]) for name in results)


def _is_gathered(program: hlo.Program, fused: hlo.Computation, result: hlo.Instruction) -> bool:
    while result.opcode in _PASSES_ON and result.operands[0] in fused.instructions:
        result = fused.instructions[result.operands[0]]
    return _size(result) >= LARGE and _gives_gathered_rows(program, result)


def _only_moves(program: hlo.Program, instruction: hlo.Instruction) -> bool:
    """Returns whether a fusion computes nothing and changes the order in memory."""
    if instruction.opcode != "fusion":
        return False
    fused = program.computations[instruction.called("calls")[0]]
    opcodes = {inner.opcode for inner in fused}
    return bool(opcodes & {"copy", "transpose"}) and opcodes <= {*_PASSES_ON, "parameter"}


def _suspect(kind: str, instruction: hlo.Instruction, times: int) -> Suspect:
    largest = max(instruction.arrays, key=lambda array: array.size)
    return Suspect(
        kind, instruction.name, instruction.op_name, str(largest), _size(instruction), times
    )


def _size(instruction: hlo.Instruction) -> int:
    return sum(array.size for array in instruction.arrays)
