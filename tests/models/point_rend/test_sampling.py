"""Which points PointRend looks at, by hand."""

import jax
import numpy as np
import pytest

from maskrcnn_jax.models.point_rend.config import PointRendConfig
from maskrcnn_jax.models.point_rend.sampling import (
    all_cells,
    doubled,
    first_size,
    most_uncertain,
    training_points,
    uncertain_cells,
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (28, 3)),  # 28 x 28 are the 784 points: then 56, 112 and 224
        ({"subdivision_points": 783}, (14, 4)),
        ({"coarse_size": 14, "subdivisions": 1}, (28, 0)),
        ({"subdivision_points": 10**9}, (224, 0)),
        ({"subdivision_points": 1}, (7, 5)),
    ],
)
def test_where_choosing_begins(changes, expected):
    config = PointRendConfig(**changes)
    assert first_size(config) == expected
    size, steps = expected
    assert size * 2**steps == config.mask_size


def test_a_mask_is_doubled_by_hand():
    found = jax.jit(doubled)(np.float32([[0, 8], [4, 4]]))
    np.testing.assert_allclose(
        found, [[0, 2, 6, 8], [1, 2.5, 5.5, 7], [3, 3.5, 4.5, 5], [4, 4, 4, 4]]
    )


def test_uncertain_cells_are_those_near_zero():
    logits = np.float32([[[5, -1], [0.5, -9]], [[1, 2], [3, 4]]])
    choose = jax.jit(uncertain_cells, static_argnums=1)
    cells, points = choose(logits, 2)
    assert cells.tolist() == [[2, 1], [0, 1]]
    assert points.tolist() == [[[0.25, 0.75], [0.75, 0.25]], [[0.25, 0.25], [0.75, 0.25]]]
    cells, points = choose(logits, 99)  # no more than there are
    assert points.shape == (2, 4, 2)
    np.testing.assert_array_equal(jax.jit(all_cells, static_argnums=0)(2)[cells], points)


def test_a_point_between_two_certain_cells_is_uncertain():
    """The left cell is object and the right one not: the border between them is the middle."""
    logits = np.float32([[[9, -9], [9, -9]]])
    points = np.float32([[[0.25, 0.5], [0.5, 0.5], [0.75, 0.5], [0.45, 0.1]]])
    choose = jax.jit(most_uncertain, static_argnums=2)
    for sign in (1, -1):
        found = choose(points, sign * logits, 2)
        np.testing.assert_allclose(found, [[[0.5, 0.5], [0.45, 0.1]]])


def test_points_of_training_are_the_uncertain_ones_and_some_others():
    config = PointRendConfig(train_points=40, oversampling=10, importance=0.75)
    # The logit is 4 x - 2 between the centres of the cells, so it is 0 at x = 1/2; towards the
    # border it fades to half of that.
    logits = np.tile(np.float32([-1, 1]), (3, 2, 1))
    draw = jax.jit(training_points, static_argnums=2)
    found = np.asarray(draw(jax.random.key(0), logits, config))
    assert found.shape == (3, 40, 2)
    assert ((found >= 0) & (found < 1)).all()
    distance = np.abs(found[..., 0] - 0.5)
    assert distance[:, :30].max() < 0.1  # 30 of 400: a fifth of the width holds 80 of them
    assert distance[:, 30:].mean() > 0.15
    assert np.abs(np.diff(found, axis=0)).max() > 0.1  # other points for another RoI
    np.testing.assert_array_equal(draw(jax.random.key(0), logits, config), found)
    assert not np.array_equal(draw(jax.random.key(1), logits, config), found)
    everything = PointRendConfig(train_points=8, oversampling=1, importance=1)
    shape = jax.eval_shape(lambda key: training_points(key, logits, everything), jax.random.key(0))
    assert shape.shape == (3, 8, 2)
