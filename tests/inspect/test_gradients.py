"""Norms of gradients, as charts."""

import numpy as np

from maskrcnn_jax.inspect.gradients import charts, gradients


def test_norms_by_hand_and_what_is_odd_is_named():
    params = {
        "fpn": {"a": {"kernel": np.full((2, 2), 2.0)}, "b": {"bias": np.zeros(2)}},
        "rpn": {"kernel": np.ones(4)},
    }
    found = {
        "fpn": {"a": {"kernel": np.array([[3.0, 0], [0, 4]])}, "b": {"bias": np.zeros(2)}},
        "rpn": {"kernel": np.array([1.0, np.nan, 0, 0])},
    }
    listed = gradients(found, params)
    assert [gradient.name for gradient in listed] == ["fpn/a/kernel", "fpn/b/bias", "rpn/kernel"]
    assert listed[0].norm == 5
    assert listed[0].share == 5 / 4
    fpn, rpn = charts(listed, "loss 1.000 of 2 images")
    assert (fpn.title, rpn.title) == ("fpn", "rpn")
    assert "norm 5 of" in fpn.legend
    assert fpn.legend.endswith("fpn/b/bias: zero")
    assert rpn.legend.endswith("rpn/kernel: not finite")
    assert fpn.picture.std() > 0
