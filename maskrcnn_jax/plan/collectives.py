"""What devices exchange in a compiled program, by kind and by axis of the mesh."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from maskrcnn_jax.plan import hlo
from maskrcnn_jax.plan.program import inside

_RANGE = r"\(?\[([\d,]+)\](?:T\(([\d,]+)\))?"
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclass(frozen=True)
class Exchange:
    """An instruction by which devices exchange arrays.

    Attributes:
        kind: of `KINDS`.
        axes: of the mesh along which devices exchange, such as `data+fsdp`.
        dtype: of the results; several joined by +.
        size: bytes of the results on one device.
        sent: bytes that a device sends, at the least.
        group: numbers of the devices of one group.
        times: how often it runs in a call; in a loop of unknown length, per round.
    """

    kind: str
    axes: str
    dtype: str
    size: int
    sent: int
    group: tuple[int, ...]
    times: int


def exchanges(program: hlo.Program, mesh: dict[str, int]) -> list[Exchange]:
    """Returns what one device exchanges with others in a call.

    Args:
        program: optimised, as `hlo.parse` returns it.
        mesh: sizes of the mesh's axes, in their order.
    """
    return [
        _exchange(kind, instruction, mesh, run.times)
        for run in hlo.runs(program)
        for kind, instruction in _collectives(program, run.computation)
    ]


def summed(found: list[Exchange]) -> dict[tuple[str, str, str], dict[str, int]]:
    """Returns, by axes, kind and dtype, `number` of instructions, `size` and `sent` of a call."""
    sums: dict[tuple[str, str, str], dict[str, int]] = {}
    for one in found:
        entry = sums.setdefault(
            (one.axes, one.kind, one.dtype), {"number": 0, "size": 0, "sent": 0}
        )
        entry["number"] += one.times
        entry["size"] += one.times * one.size
        entry["sent"] += one.times * one.sent
    return dict(sorted(sums.items()))


def _collectives(
    program: hlo.Program, computation: hlo.Computation
) -> Iterator[tuple[str, hlo.Instruction]]:
    for instruction in computation:
        kind = instruction.opcode.removesuffix("-start")
        if kind in KINDS:
            yield kind, instruction
        elif instruction.opcode == "fusion":
            for kind in KINDS:
                yield from ((kind, found) for found in inside(program, instruction, kind))


def _exchange(
    kind: str, instruction: hlo.Instruction, mesh: dict[str, int], times: int
) -> Exchange:
    size = sum(array.size for array in instruction.results)
    group = group_of(instruction.attributes, math.prod(mesh.values()))
    number = max(len(group), 1)
    sent = {
        "all-reduce": 2 * (number - 1) * size // number,
        "reduce-scatter": (number - 1) * size,
        "collective-permute": size,
    }.get(kind, (number - 1) * size // number)
    dtype = "+".join(sorted({array.dtype for array in instruction.results}))
    return Exchange(kind, axes_of(group, mesh), dtype, size, sent, group, times)


def axes_of(group: tuple[int, ...], mesh: dict[str, int]) -> str:
    """Returns the axes along which the devices of a group differ, joined by +.

    Args:
        group: numbers of devices, which count through the mesh with its last axis fastest.
        mesh: sizes of its axes, in their order.
    """
    places = np.unravel_index(np.array(group), tuple(mesh.values()))
    axes = [axis for axis, place in zip(mesh, places, strict=True) if len(set(place.tolist())) > 1]
    return "+".join(axes) or "none"


def group_of(attributes: str, devices: int) -> tuple[int, ...]:
    """Returns the devices that exchange with one another: one group, all others are like it.

    XLA writes groups as lists, `{{0,1},{2,3}}`; as a permuted range, `[2,2]<=[2,2]T(1,0)`; or as
    axes of a mesh of its own, `mesh['a'=2,'b'=2] {'a'}`, with an order of its devices,
    `device_ids=([2,2]T(1,0))`, or parts of an axis, `'a':(2)4`.

    Args:
        attributes: of the instruction.
        devices: how many there are.
    """
    if pairs := re.search(r"source_target_pairs=\{(.*?)\}(?!,\{)", attributes):
        found = re.findall(r"\{(\d+),(\d+)", pairs[1] + "}")
        return next(((int(a), int(b)) for a, b in found if a != b), (0,))
    if ranged := re.search(rf"replica_groups=\[([\d,]+)\]<={_RANGE}", attributes):
        return tuple(_range(*ranged.groups()[1:]).reshape(_numbers(ranged[1]))[0].tolist())
    if meshed := re.search(r"replica_groups=@?mesh\[(.*?)\](.*?) \{(.*?)\}", attributes):
        order = re.search(_RANGE, meshed[2])
        numbers = _range(*order.groups()) if order else np.arange(devices)
        return _group_along(meshed[1], meshed[3], numbers)
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", attributes)
    return tuple(_numbers(listed[1])) if listed else tuple(range(devices))


def _range(sizes: str, order: str | None) -> np.ndarray:
    """Returns the numbers of devices, counted along other axes first where an order is given."""
    numbers = np.arange(math.prod(_numbers(sizes))).reshape(_numbers(sizes))
    return (numbers.transpose(_numbers(order)) if order else numbers).ravel()


def _group_along(mesh: str, axes: str, numbers: np.ndarray) -> tuple[int, ...]:
    """Returns the first group along some axes, or parts of axes, of a mesh of these devices."""
    sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh)}
    numbers = numbers.reshape(tuple(sizes.values()))
    index: list[list[int]] = [[0] for _ in sizes]
    for name, before, size in re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", axes):
        whole = sizes[name]
        step = whole // (int(before) * int(size)) if size else 1
        index[list(sizes).index(name)] = [step * i for i in range(int(size) if size else whole)]
    return tuple(numbers[np.ix_(*index)].ravel().tolist())


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]
