"""The parts of a step can be traced: what the measurements of chips are made of."""

import jax
import numpy as np

from benchmarks import detector
from benchmarks.step_parts import Parts


def test_every_part_can_be_traced():
    parts = Parts(detector.get_config(tiny=True), 1, 64, 64)
    for name in parts.names:
        function, shapes = parts.named(name)
        found = jax.tree.leaves(jax.eval_shape(function, *shapes))
        assert found, name
        assert all(np.prod(leaf.shape) > 0 for leaf in found), name
