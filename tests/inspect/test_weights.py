"""Which layers are named, and that sound ones are not."""

import numpy as np
import pytest

from maskrcnn_jax.inspect.weights import fault, layers, weight_views
from tests.inference.tiny_model import tiny_variables

_KERNEL = np.random.default_rng(0).normal(0, (2 / 72) ** 0.5, (3, 3, 8, 16)).astype(np.float32)


def _with(where, value, array=_KERNEL):
    changed = array.copy()
    changed[where] = value
    return changed


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        ("kernel", _KERNEL, ""),
        ("kernel", _with((..., slice(3)), 0), "dead: 3 of 16 channels are zero"),
        ("kernel", 30 * _KERNEL, "exploding: its deviation is 29 times that of a new layer"),
        ("kernel", _with((0, 0, 0, 0), np.nan), "exploded: 1 of 1,152 values are not finite"),
        ("scale", np.array([1.0, 0.0, 1.0]), "dead: 1 of 3 channels are zero"),
        ("scale", np.array([1.0, 2.0]), ""),
        ("bias", np.zeros(4), ""),
        ("bias", np.array([1.0, -250.0]), "exploding: a value of 250"),
    ],
)
def test_faults_of_arrays(kind, values, said):
    assert fault(kind, values) == said


def test_a_new_detector_has_no_fault_and_a_broken_one_is_named_and_framed():
    params = tiny_variables()["params"]
    sound = layers(params)
    assert [layer.name for layer in sound if layer.fault] == []
    views = {view.title: view for view in weight_views(sound)}
    assert set(views) == set(params)
    broken = [layer._replace(fault="dead") if "rpn" in layer.name else layer for layer in sound]
    view = next(view for view in weight_views(broken) if view.title == "rpn")
    assert "rpn/conv_0/kernel: dead" in view.legend
    assert (view.picture[0, :300] == (230, 30, 30)).all()
    assert (views["rpn"].picture[0, :300] == 255).all()
