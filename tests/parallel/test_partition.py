"""Outside of a step for several devices nothing is split; inside, the rules of rows and RoIs.

What several devices compute: tests/training/test_eight_devices.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType

from maskrcnn_jax.parallel import partition


def _mesh(*sizes):
    return AbstractMesh(sizes, partition.AXES, axis_types=(AxisType.Auto,) * 3)


@pytest.fixture
def recorded(monkeypatch):
    """The specs that the compiler would be given."""
    specs = []

    def record(x, spec):
        specs.append(tuple(spec))
        return x

    monkeypatch.setattr(jax.lax, "with_sharding_constraint", record)
    return specs


IMAGES = (("data", "fsdp"),)
ROWS = (("data", "fsdp"), "space")


@pytest.mark.parametrize(
    ("height", "fewest", "spec"),
    [(8, None, ROWS), (9, None, ROWS), (7, None, IMAGES), (16, 8, ROWS), (14, 7, IMAGES)],
)
def test_rows_are_split_where_each_of_four_devices_gets_two(recorded, height, fewest, spec):
    with partition.over(_mesh(2, 1, 4)):
        partition.rows(jnp.zeros((2, height, 4, 1)), fewest)
    assert recorded == [spec]


@pytest.mark.parametrize(("number", "spec"), [(8, ROWS), (6, IMAGES)])
def test_rois_are_split_where_four_devices_can_share_them(recorded, number, spec):
    with partition.over(_mesh(2, 1, 4)):
        partition.rois(jnp.zeros((2, number, 4)))
    assert recorded == [spec]


def test_parameters_are_brought_together_only_where_they_are_stored_in_parts(recorded):
    for sizes in ((8, 1, 1), (1, 1, 8)):
        with partition.over(_mesh(*sizes)):
            partition.whole(jnp.zeros((4, 4)))
    assert recorded == []
    with partition.over(_mesh(4, 2, 1)):
        partition.whole(jnp.zeros((4, 4)))
    assert recorded == [()]


def test_the_mesh_holds_inside_alone():
    with partition.over(_mesh(2, 3, 4)):
        assert partition.batch_shards() == 6
        with partition.over(None):
            assert partition.batch_shards() == 1
        assert partition.batch_shards() == 6
    assert partition.batch_shards() == 1


def _constraints(function):
    """How often a jitted function of images says how they are sharded."""
    return str(function.trace(jnp.zeros((6, 4))).jaxpr).count("sharding_constraint")


@pytest.mark.parametrize("first_is_inside", [False, True])
def test_a_function_jitted_outside_is_traced_again_inside_and_the_other_way(first_is_inside):
    function = jax.jit(lambda x: partition.images(x) + 1)
    for is_inside in (first_is_inside, not first_is_inside, first_is_inside):
        with partition.over(_mesh(2, 1, 2) if is_inside else None):
            assert _constraints(function) == (1 if is_inside else 0)
            # Inside another jitted function, too.
            assert _constraints(jax.jit(lambda x: function(x))) == (1 if is_inside else 0)


def test_each_mesh_has_its_own_program():
    function = jax.jit(lambda x: x * partition.batch_shards())
    for sizes in ((2, 1, 2), (2, 3, 1), (2, 1, 2)):
        with partition.over(_mesh(*sizes)):
            assert function(1) == sizes[0] * sizes[1]


def test_meshes_of_others_are_left_alone():
    with jax.sharding.use_abstract_mesh(AbstractMesh((4,), ("batch",))):
        assert partition.batch_shards() == 1


def test_nothing_changes_without_a_mesh(recorded):
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    for function in (partition.images, partition.rows, partition.rois, partition.whole):
        np.testing.assert_array_equal(function(x), x)
    flat = partition.flat_rois(x)
    np.testing.assert_array_equal(flat, x.reshape(6, 4))
    np.testing.assert_array_equal(partition.unflat_rois(flat, 2), x)
    assert recorded == []


def test_functions_of_an_image_become_functions_of_a_batch_without_gradient():
    x = jnp.arange(6.0).reshape(2, 3)
    square = partition.per_image(lambda x, key: (x**2, jax.random.uniform(key)))
    keys = jax.random.split(jax.random.key(0), 2)
    result, numbers = square(x, keys)
    np.testing.assert_array_equal(result, x**2)
    np.testing.assert_array_equal(numbers, jax.vmap(jax.random.uniform)(keys))
    gradient = jax.grad(lambda x: square(x, keys)[0].sum() + (3 * x).sum())(x)
    np.testing.assert_array_equal(gradient, np.full((2, 3), 3.0))
