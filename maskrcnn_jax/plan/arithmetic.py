"""Floating-point operations of a compiled program, from the text of its convolutions and products.

Only these count: they are nearly all of a detector's arithmetic, and what matrix units do. A
multiplication with an addition is two operations; those with padding do not count, as in XLA's own
cost analysis. Loops count as often as they run, those of unknown length once.
"""

import math
import re

import numpy as np

from maskrcnn_jax.plan import hlo

# Where (result, operands...) has the input, the kernel and the output of a forward convolution.
_FORWARD = (1, 2, 0)
_CUDNN = {"__cudnn$convBackwardInput": (0, 2, 1), "__cudnn$convBackwardFilter": (1, 0, 2)}
_PRODUCTS = ("dot", "convolution", "custom-call")


def flops(program: hlo.Program) -> float:
    """Returns the operations of one device in a call.

    Args:
        program: optimised, as `hlo.parse` returns it.
    """
    return float(sum(run.times * _of(program, run.computation) for run in hlo.runs(program)))


def _of(program: hlo.Program, computation: hlo.Computation) -> int:
    """Returns the operations of a computation and of the fusions in it."""
    total = 0
    for instruction in computation:
        if instruction.opcode == "fusion":
            total += _of(program, program.computations[instruction.called("calls")[0]])
        elif instruction.opcode in _PRODUCTS:
            total += _product(computation, instruction)
    return total


def _product(computation: hlo.Computation, instruction: hlo.Instruction) -> int:
    operands = [computation.instructions[name].arrays for name in instruction.operands]
    arrays = [instruction.arrays[0], *(found[0] for found in operands if found)]
    if instruction.opcode == "dot":
        return _dot(instruction, arrays)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    target = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
    if instruction.opcode == "custom-call" and target and "gemm" in target[1].lower():
        return _dot(instruction, arrays)
    if labels is None:
        return 0
    places = _CUDNN.get(target[1] if target else "", _FORWARD)
    image, kernel, output = (
        dict(zip(label, arrays[place].sides, strict=True))
        for label, place in zip(labels.groups(), places, strict=True)
    )
    return _convolution(image, kernel, output, _window(instruction.attributes))


def _convolution(
    image: dict[str, int], kernel: dict[str, int], output: dict[str, int], window: dict
) -> int:
    """Counts every pair of an output and a number that its window reads, in all channels.

    Args:
        image: sizes by label: b batch, f channels, 0, 1, ... the other axes.
        kernel: likewise; i input and o output channels.
        output: likewise, as the input.
        window: as `_window` returns it.
    """
    pairs = 1
    for axis in (label for label in kernel if label.isdigit()):
        stride, before, spread, apart = (window[name][int(axis)] for name in _WINDOW)
        out, taps = np.arange(output[axis])[:, None], np.arange(kernel[axis])
        read = out * stride + taps * apart - before
        inside = (read >= 0) & (read <= (image[axis] - 1) * spread) & (read % spread == 0)
        pairs *= int(inside.sum())
    return 2 * output["b"] * kernel["i"] * kernel["o"] * pairs


_WINDOW = {"stride": "1", "pad": "0_0", "lhs_dilate": "1", "rhs_dilate": "1"}


def _window(attributes: str) -> dict[str, list[int]]:
    """Returns, axis by axis, stride, padding before, and dilation of the input and the kernel."""
    found = re.search(r"window=\{([^}]*)\}", attributes)
    given = dict(part.split("=") for part in found[1].split()) if found else {}
    axes = len(given.get("size", "").split("x"))
    texts = {name: given.get(name, "x".join([usual] * axes)) for name, usual in _WINDOW.items()}
    return {
        name: [int(number.split("_")[0]) for number in text.split("x")]
        for name, text in texts.items()
    }


def _dot(instruction: hlo.Instruction, arrays: list[hlo.Array]) -> int:
    """Every number of the result is a sum over the contracted axes."""
    axes = re.search(r'"?lhs_contracting_dim\w*"?[=:][{\[]([\d,"]*)', instruction.attributes)
    if axes is None:
        return 0
    numbers = [int(axis) for axis in re.findall(r"\d+", axes[1])]
    return 2 * math.prod(arrays[0].sides) * math.prod(arrays[1].sides[axis] for axis in numbers)
