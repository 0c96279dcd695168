"""Reads the text of an optimised program, as `jax.stages.Compiled.as_text` gives it.

Only what a plan needs of it: computations, their instructions in the order in which they run, and
how often each runs. Nothing here knows JAX; the grammar is that of HLO, which XLA prints
(https://openxla.org/xla/operation_semantics).
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "token": 0, "opaque": 0}
_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s*(ROOT )?%?([\w.-]+) = (.*?) ([a-z][\w-]*)\((.*)$")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^{}]*)\})?")
_NAME = re.compile(r"%([\w.-]+)")
_CALLED = re.compile(
    r"\b(calls|to_apply|body|condition|branch_computations|true_computation|false_computation|"
    r"called_computations)=\{?((?:%[\w.-]+(?:, )?)+)"
)
_TRIPS = re.compile(r'known_trip_count"?:\{"?n"?:"?(\d+)')


@dataclass(frozen=True)
class Array:
    """The shape of an array, as it lies in memory.

    Attributes:
        dtype: such as bf16.
        sides: of it.
        size: bytes, with the padding of its tiles.
        on_chip: whether it is in a memory inside of the chip (a TPU's VMEM).
    """

    dtype: str
    sides: tuple[int, ...]
    size: int
    on_chip: bool

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.sides))}]"


@dataclass(frozen=True)
class Instruction:
    """A line of a computation.

    Attributes:
        name: unique in the program.
        arrays: its results; several where it gives a tuple.
        opcode: such as fusion.
        operands: names of instructions of the same computation.
        attributes: everything behind the operands.
        literal: what stands in the parentheses, such as the value of a constant.
    """

    name: str
    arrays: tuple[Array, ...]
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    literal: str

    @property
    def op_name(self) -> str:
        """Where it comes from in the traced function, such as `jit(train_step)/rpn/conv`."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found[1] if found else ""

    @property
    def results(self) -> tuple[Array, ...]:
        """The arrays that it makes; one that is only started also names its operands and flags."""
        if self.opcode == "copy-start":
            return self.arrays[:1]
        if self.opcode.endswith("-start") and self.opcode != "all-reduce-start":
            return self.arrays[len(self.operands) : 2 * len(self.operands)]
        return self.arrays

    @property
    def cycles(self) -> int | None:
        """The TPU compiler's estimate, or None without one."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.attributes)
        # A few instructions have the largest number there is, for none.
        return int(found[1]) if found and int(found[1]) < 2**40 else None

    def called(self, *kinds: str) -> list[str]:
        """Returns the names of the computations that it calls, of some kinds or all."""
        return [
            name
            for kind, names in _CALLED.findall(self.attributes)
            if not kinds or kind in kinds
            for name in _NAME.findall(names)
        ]


@dataclass
class Computation:
    """Instructions by name, as the program runs them; `root` is the one that gives the result."""

    name: str
    instructions: dict[str, Instruction] = field(default_factory=dict)
    root: str = ""

    def __iter__(self) -> Iterator[Instruction]:
        return iter(self.instructions.values())


@dataclass
class Program:
    """Computations by name, and the name of the one that is run."""

    computations: dict[str, Computation]
    entry: str


@dataclass(frozen=True)
class Run:
    """A computation that runs as instructions of its own, unlike the inside of a fusion.

    Attributes:
        computation: what is run.
        times: how often in a call of the program; loops of unknown length count once.
        unknown: the loop of unknown length that it is part of, or None.
    """

    computation: Computation
    times: int
    unknown: str | None


def parse(text: str) -> Program:
    """Returns the program of a text.

    Raises:
        ValueError: where there is none.
    """
    computations: dict[str, Computation] = {}
    entry, current = None, None
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = computations.setdefault(head[2], Computation(head[2]))
            entry = head[2] if head[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (found := _INSTRUCTION.match(line)):
            instruction = _instruction(*found.groups()[1:])
            current.instructions[instruction.name] = instruction
            current.root = instruction.name if found[1] else current.root
    if entry is None:
        raise ValueError("this is no text of an optimised program: it has no ENTRY computation")
    return Program(computations, entry)


def _instruction(name: str, shape: str, opcode: str, rest: str) -> Instruction:
    end = _closing(rest)
    inside = rest[:end]
    return Instruction(
        name, arrays(shape), opcode, tuple(_NAME.findall(inside)), rest[end + 1 :], inside
    )


def _closing(text: str) -> int:
    """Returns where the parenthesis closes that was opened before the text."""
    depth = 1
    for position, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return position
    return len(text)


def arrays(shape: str) -> tuple[Array, ...]:
    """Returns the arrays of a shape, such as `(f32[64,3]{1,0}, s32[])`."""
    return tuple(_array(*found) for found in _ARRAY.findall(shape))


def _array(dtype: str, sides: str, layout: str) -> Array:
    numbers = tuple(int(side) for side in sides.split(",") if side)
    order, _, tiles = layout.partition(":")
    padded = [numbers[int(axis)] for axis in reversed(order.split(",")) if axis] or list(numbers)
    tile = re.search(r"T\(([\d,]+)\)", tiles)
    tile_sides = [int(side) for side in tile[1].split(",")] if tile and numbers else []
    for place, side in enumerate(reversed(tile_sides[-len(padded) :] if padded else []), 1):
        padded[-place] = math.ceil(padded[-place] / side) * side
    return Array(dtype, numbers, math.prod(padded) * _bits(dtype) // 8, "S(1)" in tiles)


def _bits(dtype: str) -> int:
    """Returns the size of a number, which is in the name of most types, such as f32, f8e4m3fn."""
    digits = re.match(r"[a-z]+(\d+)", dtype)
    return _BITS[dtype] if dtype in _BITS else int(digits[1]) if digits else 0


def runs(program: Program) -> list[Run]:
    """Returns the computations that run, in the order in which they are met.

    Args:
        program: as `parse` returns it.
    """
    found: list[Run] = []

    def visit(name: str, times: int, unknown: str | None) -> None:
        computation = program.computations[name]
        found.append(Run(computation, times, unknown))
        for instruction in computation:
            if instruction.opcode == "while":
                trips = trip_count(program, computation, instruction)
                inner = unknown if trips else (unknown or instruction.name)
                for called in instruction.called("body", "condition"):
                    visit(called, times * (trips or 1), inner)
            elif instruction.opcode in ("call", "conditional", "async-start"):
                for called in instruction.called():
                    visit(called, times, unknown)

    visit(program.entry, 1, None)
    return found


def trip_count(program: Program, computation: Computation, loop: Instruction) -> int | None:
    """Returns how often a loop's body runs, or None where that is not known.

    XLA notes it on a GPU. On a TPU it is what the condition compares a counter with, less the
    counter's first value, where both are constants; a loop over a range counts by one.

    Args:
        program: the whole.
        computation: where the loop stands.
        loop: its instruction, `while`.
    """
    if noted := _TRIPS.search(loop.attributes):
        return int(noted[1])
    condition = program.computations[loop.called("condition")[0]]
    compared = _compared(program, condition)
    start = computation.instructions.get(loop.operands[0])
    if compared is None or start is None:
        return None
    values = [_constant(condition, name, computation, start) for name in compared]
    first, last = values
    return None if first is None or last is None else max(last - first, 0)


def _compared(program: Program, condition: Computation) -> list[str] | None:
    """Returns the two operands of the condition's `counter < limit`, as names inside of it."""
    root = condition.instructions[condition.root]
    if root.opcode == "fusion":
        fused = program.computations[root.called("calls")[0]]
        inner = fused.instructions[fused.root]
        numbers = [fused.instructions.get(name) for name in inner.operands]
        if "direction=LT" not in inner.attributes:
            return None
        if not all(number and number.opcode == "parameter" for number in numbers):
            return None
        return [root.operands[int(number.literal)] for number in numbers if number]
    is_less = root.opcode == "compare" and "direction=LT" in root.attributes
    return list(root.operands) if is_less else None


def _constant(
    condition: Computation, name: str, computation: Computation, start: Instruction
) -> int | None:
    """Returns a number of the condition: its own constant, or one that the loop begins with."""
    instruction = condition.instructions[name]
    if instruction.opcode == "get-tuple-element":
        index = int(re.findall(r"index=(\d+)", instruction.attributes)[0])
        if start.opcode != "tuple":
            return None
        inner = computation.instructions.get(start.operands[index])
        while inner is not None and inner.opcode in ("copy", "bitcast"):
            inner = computation.instructions.get(inner.operands[0])
        instruction = inner if inner is not None else instruction
    is_number = instruction.opcode == "constant" and re.fullmatch(r"-?\d+", instruction.literal)
    return int(instruction.literal) if is_number else None
