"""Proposals worked by hand."""

from functools import partial

import jax
import numpy as np

from maskrcnn_jax.models.rpn import RPNHead, propose
from tests.models import matterport

SETTINGS = dict(
    pre_nms_top_n=10,
    post_nms_top_n=10,
    nms_threshold=0.5,
    min_size=1.0,
    coder_weights=(1.0, 1.0, 1.0, 1.0),
)
SIZE = np.array([100.0, 80.0], np.float32)  # height, width


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x)))


def run(levels, size=SIZE, deltas=None, **settings):
    """levels: one list of (logit, box) a level. Returns the valid proposals and their scores."""
    logits = [np.array([logit for logit, _ in level], np.float32) for level in levels]
    anchors = [np.array([box for _, box in level], np.float32) for level in levels]
    deltas = [np.zeros_like(level) for level in anchors] if deltas is None else deltas
    program = jax.jit(partial(propose, **(SETTINGS | settings)))
    proposals = jax.device_get(program(logits, deltas, anchors, size))
    valid = proposals.valid
    assert not proposals.boxes[~valid].any()
    return proposals.boxes[valid].tolist(), proposals.scores[valid]


A, B, C = [10, 10, 30, 30], [40, 10, 60, 30], [10, 50, 30, 70]


def test_best_first_over_all_levels():
    boxes, scores = run([[(0.0, A), (2.0, B)], [(1.0, C)]])
    assert boxes == [B, C, A]
    np.testing.assert_allclose(scores, sigmoid([2, 1, 0]), rtol=1e-6)


def test_levels_do_not_suppress_each_other():
    near = [10, 10, 30, 31]
    assert run([[(1.0, A), (2.0, near)]])[0] == [near]
    assert run([[(1.0, A)], [(2.0, near)]])[0] == [near, A]


def test_each_level_gives_its_best_before_suppression():
    near = [10, 10, 30, 31]
    # B is third of its level: not looked at, although the second is suppressed.
    assert run([[(3.0, near), (2.0, A), (1.0, B)], [(0.0, C)]], pre_nms_top_n=2)[0] == [near, C]


def test_joint_takes_the_best_of_all_levels_and_suppresses_across_them():
    near = [10, 10, 30, 31]
    levels = [[(3.0, A), (2.0, B)], [(2.5, near), (1.0, C)]]
    assert run(levels)[0] == [A, near, B, C]
    assert run(levels, joint=True)[0] == [A, B, C]
    # The best two of all: A, and what it suppresses.
    assert run(levels, joint=True, pre_nms_top_n=2)[0] == [A]


def test_joint_equals_greedy_over_all():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 60, (120, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (120, 2))], axis=1)
    boxes = np.float32(np.round(boxes * 4) / 4)
    logits = rng.normal(size=120).astype(np.float32)
    levels = [list(zip(logits[i:j], boxes[i:j], strict=True)) for i, j in ((0, 80), (80, 120))]
    size = np.array([1000.0, 1000.0], np.float32)
    ours, scores = run(levels, size, joint=True, pre_nms_top_n=70, post_nms_top_n=25, min_size=0.0)
    best = np.argsort(-logits)[:70]
    kept = best[matterport.greedy(boxes[best], logits[best], 0.5)]
    assert len(kept) > 25
    np.testing.assert_allclose(ours, boxes[kept[:25]], atol=1e-4)
    np.testing.assert_allclose(scores, sigmoid(logits[kept[:25]]), rtol=1e-6)


def test_at_most_so_many_in_all():
    assert run([[(0.0, A), (2.0, B)], [(1.0, C)]], post_nms_top_n=2)[0] == [B, C]


def test_clipped_to_the_image_and_small_ones_dropped():
    outside, corner, sliver = [90, 0, 120, 30], [-10, 80, 10, 130], [79.5, 0, 100, 100]
    assert run([[(3.0, outside), (2.0, corner), (1.0, sliver)]])[0] == [[0, 80, 10, 100]]


def test_deltas_move_and_scale():
    deltas = [np.array([[0.5, -0.25, np.log(2), 0]], np.float32)]
    boxes, _ = run([[(0.0, A)]], deltas=deltas)
    np.testing.assert_allclose(boxes, [[10, 5, 50, 25]], rtol=1e-6)


def test_ties_go_to_the_first():
    near = [10, 10, 30, 31]
    assert run([[(1.0, A), (1.0, near)]])[0] == [A]
    assert run([[(30.0, A)], [(31.0, B)]])[0] == [A, B]  # both scores are 1 in float32


def test_no_gradient():
    def total(deltas):
        anchors = [np.array([A, B], np.float32)]
        logits = [np.zeros(2, np.float32)]
        return propose(logits, [deltas], anchors, SIZE, **SETTINGS).boxes.sum()

    assert not jax.jit(jax.grad(total))(np.zeros((2, 4), np.float32)).any()


def test_head_orders_by_row_column_anchor():
    pyramid = {"p2": np.zeros((1, 2, 3, 4), np.float32), "p3": np.zeros((1, 1, 2, 4), np.float32)}
    pyramid["p2"][0, 1, 2] = 1  # the last cell of the first level
    model = RPNHead(channels=4, anchors_per_cell=2)
    variables = model.init(jax.random.key(0), pyramid)
    # The 3x3 convolution copies; the predictors number their outputs.
    kernel = np.zeros((3, 3, 4, 4), np.float32)
    kernel[1, 1] = np.eye(4)
    variables["params"]["conv_0"]["kernel"] = kernel
    for name, number in (("logits", 2), ("deltas", 8)):
        outputs = np.arange(1, number + 1, dtype=np.float32)
        variables["params"][name]["kernel"] = np.tile(outputs / 4, (1, 1, 4, 1))
    logits, deltas = model.apply(variables, pyramid)
    np.testing.assert_array_equal(logits[0][0], [0] * 10 + [1, 2])
    assert deltas[0].shape == (1, 12, 4)
    np.testing.assert_array_equal(deltas[0][0, 10:], [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert logits[1].shape == (1, 4)
    assert not logits[1].any()
