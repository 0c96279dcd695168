"""Floating-point operations of a compiled program, from the text of its convolutions and products.

Only these count: they are nearly all of a detector's arithmetic, and what matrix units do. A
multiplication with an addition is two operations. Loops count as often as they run, those of
unknown length once; additions of padding count, as they are done.
"""

import math
import re

from maskrcnn_jax.plan import hlo

# Of cuDNN's convolutions: where (result, operands...) has the forward convolution's output and its
# kernel.
_CUDNN = {
    "__cudnn$convForward": (0, 2),
    "__cudnn$convBiasActivationForward": (0, 2),
    "__cudnn$convBackwardInput": (1, 2),
    "__cudnn$convBackwardFilter": (2, 0),
}
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
    labels = re.search(r"dim_labels=\w+_(\w+)->", instruction.attributes)
    target = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
    if instruction.opcode == "custom-call" and target and "gemm" in target[1].lower():
        return _dot(instruction, arrays)
    if labels is None:
        return 0
    output, kernel = (arrays[i] for i in _CUDNN.get(target[1] if target else "", (0, 2)))
    features = kernel.sides[labels[1].index("o")]
    dilated = re.search(r"lhs_dilate=([\dx]+)", instruction.attributes)
    zeros = math.prod(map(int, dilated[1].split("x"))) if dilated else 1
    return 2 * math.prod(output.sides) * math.prod(kernel.sides) // features // zeros


def _dot(instruction: hlo.Instruction, arrays: list[hlo.Array]) -> int:
    """Every number of the result is a sum over the contracted axes."""
    axes = re.search(r'"?lhs_contracting_dim\w*"?[=:][{\[]([\d,"]*)', instruction.attributes)
    if axes is None:
        return 0
    numbers = [int(axis) for axis in re.findall(r"\d+", axes[1])]
    return 2 * math.prod(arrays[0].sides) * math.prod(arrays[1].sides[axis] for axis in numbers)
