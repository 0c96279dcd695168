"""Which arrays fill a device's memory when most of it is in use.

The program's instructions run in the order in which they stand. An array is in memory from the
instruction that makes it to the last that reads it. XLA places arrays more cleverly (it reuses the
memory of an operand for a result, say), so the sum at the fullest moment is near its figure for
temporaries, and not the same.
"""

from dataclasses import dataclass

from maskrcnn_jax.plan import hlo

# Their results are their operands' memory.
_SAME_MEMORY = (
    *("bitcast", "get-tuple-element", "tuple", "while", "opt-barrier", "copy-done", "async-done"),
    *("all-reduce-done", "all-gather-done", "collective-permute-done"),
)
_NO_MEMORY = ("parameter", "constant", "after-all", "partition-id", "replica-id")


@dataclass(frozen=True)
class Buffer:
    """An array in memory.

    Attributes:
        size: bytes.
        shape: of it, or of the largest where an instruction has several.
        op_name: where it comes from in the traced function.
        instruction: its name in the program.
    """

    size: int
    shape: str
    op_name: str
    instruction: str


def at_peak(program: hlo.Program) -> list[Buffer]:
    """Returns the temporary arrays that are in memory when most is in use, the largest first.

    Arguments and results of the program are not among them.

    Args:
        program: optimised and scheduled, as `hlo.parse` returns it.
    """
    return sorted(_peak(program, program.entry, {}), key=lambda buffer: -buffer.size)


def _peak(program: hlo.Program, name: str, known: dict[str, list[Buffer]]) -> list[Buffer]:
    """Returns the buffers of a computation, and of those it calls, at its fullest moment."""
    if name in known:
        return known[name]
    computation = program.computations[name]
    owners = _owners(computation)
    last = _last_reads(computation, owners)
    live: dict[str, Buffer] = {}
    best: list[Buffer] = []
    most = -1
    for place, instruction in enumerate(computation):
        if owners[instruction.name] == {instruction.name}:
            live[instruction.name] = _buffer(instruction)
        called: list[Buffer] = []
        if instruction.opcode in ("while", "call", "conditional"):
            inner = (_peak(program, other, known) for other in instruction.called())
            called = max(inner, key=_total, default=[])
        now = [*live.values(), *called]
        if _total(now) > most:
            best, most = now, _total(now)
        for done in [owner for owner in live if last.get(owner, place) <= place]:
            del live[done]
    known[name] = [buffer for buffer in best if buffer.size]
    return known[name]


def _owners(computation: hlo.Computation) -> dict[str, set[str]]:
    """Returns, for each instruction, those whose memory its result is in."""
    owners: dict[str, set[str]] = {}
    parts: dict[str, list[set[str]]] = {}  # of tuples, element by element
    for instruction in computation:
        name, operands = instruction.name, instruction.operands
        if instruction.opcode in _NO_MEMORY:
            owners[name] = set()
        elif instruction.opcode not in _SAME_MEMORY:
            owners[name] = {name}
        elif instruction.opcode == "get-tuple-element" and operands[0] in parts:
            index = int(instruction.attributes.split("index=")[1].split(",")[0])
            owners[name] = parts[operands[0]][index]
        else:
            owners[name] = set().union(*(owners.get(operand, set()) for operand in operands))
        if instruction.opcode == "tuple":
            parts[name] = [owners.get(operand, set()) for operand in operands]
        elif instruction.opcode == "while" and operands[0] in parts:
            parts[name] = parts[operands[0]]
    return owners


def _last_reads(computation: hlo.Computation, owners: dict[str, set[str]]) -> dict[str, int]:
    """Returns where each buffer is read last; -1 for what the computation returns."""
    last: dict[str, int] = {}
    for place, instruction in enumerate(computation):
        for operand in instruction.operands:
            for owner in owners.get(operand, ()):
                last[owner] = place
    for owner in owners[computation.root]:
        last[owner] = -1
    return last


def _buffer(instruction: hlo.Instruction) -> Buffer:
    arrays = [array for array in instruction.results if not array.on_chip]
    shape = str(max(arrays, key=lambda array: array.size)) if arrays else ""
    size = sum(array.size for array in arrays)
    return Buffer(size, shape, instruction.op_name, instruction.name)


def _total(buffers: list[Buffer]) -> int:
    return sum(buffer.size for buffer in buffers)
