"""Meshes and batches; `training/test_eight_devices.py` trains on them."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from maskrcnn_jax.parallel.config import MeshConfig
from maskrcnn_jax.parallel.mesh import (
    AXES,
    check_buckets,
    local_batch_size,
    make_mesh,
    shard_batch,
    state_sharding,
)


def test_mesh_takes_all_devices_by_default():
    mesh = make_mesh(MeshConfig(**{"data": -1}))
    assert dict(mesh.shape) == {"data": len(jax.devices()), "fsdp": 1, "space": 1}
    assert all(kind == jax.sharding.AxisType.Auto for kind in mesh.axis_types)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"data": 0}, "config.mesh.data is 0, but there .* or -1 for all that are left"),
        ({"data": -2}, "config.mesh.data is -2, but there"),
        ({"fsdp": -1}, "config.mesh.fsdp is -1, but there are [0-9]* devices; give a number from"),
        ({"data": 1000}, r"asks for 1000 devices \(data 1000 x fsdp 1 x space 1\), but there are"),
        ({"data": -1, "space": 999}, "fsdp x space is 1 x 999, which does not divide the"),
    ],
)
def test_impossible_meshes_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        make_mesh(MeshConfig(**{"data": 1, "fsdp": 1, "space": 1} | sizes))


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((3, 3, 256, 512), (None, None, None, "fsdp")),
        ((12544, 1024), ("fsdp",)),
        ((1022, 1024, 2), (None, "fsdp")),  # the longest that four devices can share
        ((1023, 1021), ()),
        ((16, 1024), (None, "fsdp")),
        ((16, 1020), ()),  # too small
        ((), ()),
    ],
)
def test_large_arrays_of_the_state_are_split_along_their_longest_axis(shape, spec):
    tree = {"params": jax.ShapeDtypeStruct(shape, np.float32)}
    sharded = state_sharding(tree, AbstractMesh((2, 4, 1), AXES))["params"]
    assert tuple(sharded.spec) == spec
    whole = state_sharding(tree, AbstractMesh((8, 1, 1), AXES))["params"]
    assert tuple(whole.spec) == ()


def test_devices_of_several_processes_must_all_be_used():
    devices = _devices(processes=2, each=4)
    with pytest.raises(ValueError, match=r"has 4 devices .* the 2 processes have 8, and all must"):
        make_mesh(MeshConfig(**{"data": 4, "fsdp": 1, "space": 1}), devices)
    with pytest.raises(ValueError, match=r"config.mesh.space is 8, but each process has 4 device"):
        make_mesh(MeshConfig(**{"data": -1, "fsdp": 1, "space": 8}), devices)


def test_the_devices_of_a_process_lie_together():
    devices = _devices(processes=2, each=4)
    mesh = make_mesh(MeshConfig(**{"data": -1, "fsdp": 1, "space": 2}), devices[::-1])
    assert [[d.id for d in row] for row in mesh.devices[:, 0]] == [[0, 1], [2, 3], [4, 5], [6, 7]]


@dataclass(frozen=True)
class _Device:
    process_index: int
    id: int
    device_kind: str = "cpu"


def _devices(processes, each):
    return [_Device(i // each, i) for i in range(processes * each)]


def test_rows_that_devices_cannot_share_are_named():
    mesh = AbstractMesh((1, 1, 3), AXES)
    check_buckets(((96, 64), (192, 100)), mesh)
    message = "has 64x96, of which 3 devices cannot share the 64 rows equally; .* multiple of 96"
    with pytest.raises(ValueError, match=message):
        check_buckets(((96, 64), (64, 96)), mesh)


def test_a_batch_reaches_the_device_unchanged(one_device_mesh):
    batch = {
        "image": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        "valid": np.array([True, False]),
    }
    arrays = shard_batch(batch, one_device_mesh)
    for key, value in batch.items():
        assert arrays[key].dtype == value.dtype
        np.testing.assert_array_equal(arrays[key], value)


def test_batches_that_devices_cannot_share_are_named(one_device_mesh):
    class FourDevices:
        shape = {"data": 2, "fsdp": 2, "space": 1}  # noqa: RUF012
        local_devices = (0, 1, 2, 3)

    assert local_batch_size(8, FourDevices(), "config.train.batch_size") == 8
    with pytest.raises(ValueError, match=r"config.eval.batch_size is 6, which 4 devices cannot"):
        local_batch_size(6, FourDevices(), "config.eval.batch_size")
    with pytest.raises(ValueError, match=r"config.train.batch_size is 0"):
        local_batch_size(0, one_device_mesh, "config.train.batch_size")
