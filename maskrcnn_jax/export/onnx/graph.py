"""A graph under construction: nodes, constants, and the variables that constants are made of."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

OPSET = 17
# Version of the file format. Newer ones add nothing that opset 17 needs; older runtimes refuse
# them.
IR_VERSION = 8

Input = str | np.ndarray | np.generic | None


class FeatureMap(NamedTuple):
    """A value of the graph, `[n, channels, height, width]` float32; n alone may be unknown."""

    name: str
    channels: int
    height: int
    width: int


@dataclass
class Graph:
    """Collects nodes; a call appends one and returns the name of what it computes.

    Attributes:
        nodes: in an order in which they can be computed.
        constants: by name; equal ones are kept once, as layers that several levels share need.
    """

    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)

    def __call__(self, operator: str, *inputs: Input, **attributes: Any) -> str:
        """Appends a node with one output.

        Args:
            operator: a standard operator of opset 17.
            inputs: names of values, arrays (which become constants), None for one left out.
            attributes: of the operator.
        """
        return self.several(operator, 1, *inputs, **attributes)[0]

    def several(
        self, operator: str, outputs: int, *inputs: Input, **attributes: Any
    ) -> Sequence[str]:
        """Appends a node with several outputs; other arguments as in a call."""
        number = len(self.nodes)
        names = [
            f"{operator}_{number}_{i}" if i else f"{operator}_{number}" for i in range(outputs)
        ]
        given = ["" if x is None else x if isinstance(x, str) else self.constant(x) for x in inputs]
        self.nodes.append(helper.make_node(operator, given, names, **attributes))
        return names

    def constant(self, array: np.ndarray | np.generic, name: str | None = None) -> str:
        """Returns the name of a constant; float64 becomes float32.

        Args:
            array: of any standard type.
            name: what users look for it by; None: any.
        """
        array = np.asarray(array)
        # Not ascontiguousarray alone: it turns a scalar into a vector.
        array = np.array(array, np.float32 if array.dtype == np.float64 else array.dtype, order="C")
        if name is None:
            name = f"{array.dtype}{list(array.shape)}_{hashlib.sha256(array.data).hexdigest()[:16]}"
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def name(self, value: str, name: str) -> None:
        """Gives a value the name of an output of the whole graph."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))


@dataclass(frozen=True)
class Part:
    """The variables of a part of the detector: parameters, and statistics where it has any."""

    params: Mapping[str, Any]
    statistics: Mapping[str, Any]

    def __getitem__(self, name: str) -> "Part":
        return Part(self.params[name], self.statistics.get(name, {}))

    def __contains__(self, name: str) -> bool:
        return name in self.params

    def array(self, name: str) -> np.ndarray:
        """Returns a parameter or a statistic in float64, so that folding rounds once."""
        found = self.params[name] if name in self.params else self.statistics[name]
        return np.asarray(found, np.float64)


def ints(*values: int) -> np.ndarray:
    """Returns a vector of int64, which shapes and indices are."""
    return np.array(values, np.int64)


LAST = 2**31 - 1  # as an end: all the rest of an axis
