"""What a compiled program says of itself: memory, arithmetic and communication of one device.

Nothing is run. Programs for several devices are compiled as one that each of them runs on its own
part, so every number here is for one device.
"""

import math
import re
from collections.abc import Iterator

import jax

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f64": 8}
_INSTRUCTION = re.compile(rf"^\s*(?:ROOT )?%?[\w.-]+ = (.*?) ({'|'.join(KINDS)})(?:-start)?\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_LOOP_BODY = re.compile(r" while\(.*body=%?([\w.-]+)")


def memory(program: jax.stages.Compiled) -> dict[str, int]:
    """Returns bytes of a device: `arguments`, `outputs` in memory of their own, and `temporary`.

    Args:
        program: compiled.
    """
    analysis = program.memory_analysis()
    return {
        "arguments": analysis.argument_size_in_bytes,
        "outputs": analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
        "temporary": analysis.temp_size_in_bytes,
    }


def flops(program: jax.stages.Compiled) -> float:
    """Returns the floating-point operations of a device; the body of a loop counts once.

    Args:
        program: compiled.
    """
    costs = program.cost_analysis()
    costs = costs[0] if isinstance(costs, list) else costs
    return float(costs["flops"])


def collectives(text: str) -> dict[str, dict[str, int]]:
    """Counts the instructions by which devices exchange arrays.

    Args:
        text: an optimised program, as `Compiled.as_text` gives it.

    Returns:
        By kind, of those that occur: `number`, `bytes` of the results on one device (what a
        reduce-scatter leaves is a share of what it takes), and `in_loops`, how many of them are in
        the body of a loop, where they count once.
    """
    found = {}
    for kind, size, in_loop in _exchanges(text):
        entry = found.setdefault(kind, {"number": 0, "bytes": 0, "in_loops": 0})
        entry["number"] += 1
        entry["bytes"] += size
        entry["in_loops"] += in_loop
    return found


def _exchanges(text: str) -> Iterator[tuple[str, int, bool]]:
    """Yields kind, bytes of the result, and whether it is in a loop's body itself."""
    bodies = set(_LOOP_BODY.findall(text))
    in_loop = False
    for line in text.splitlines():
        if computation := _COMPUTATION.match(line):
            in_loop = computation[1] in bodies
        elif instruction := _INSTRUCTION.match(line):
            yield instruction[2], _size(instruction[1]), in_loop


def _size(shapes: str) -> int:
    """Returns the bytes of an array or of a tuple of them, such as `(f32[64,3], s32[])`."""
    return sum(
        _BYTES.get(dtype, 4) * math.prod(int(n) for n in sides.split(",") if n)
        for dtype, sides in _ARRAY.findall(shapes)
    )
