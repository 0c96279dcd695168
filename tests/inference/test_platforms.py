"""One traced prediction becomes a program for each platform, in the forms of that platform."""

import jax
import jax.export
import jax.numpy as jnp
import pytest

from maskrcnn_jax.inference.predict_step import make_predict_step
from maskrcnn_jax.models.build import make_model
from maskrcnn_jax.ops.pooling.pool import without_kernels
from tests.end_to_end.tiny import get_config
from tests.inference.tiny_model import tiny_variables

IMAGE = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8)
SIZE = jax.ShapeDtypeStruct((1, 2), jnp.float32)


def _step():
    return make_predict_step(make_model(get_config().model, 3))


@pytest.fixture(scope="module")
def step():
    return _step()


def test_a_prediction_is_exported_for_all_platforms_at_once():
    platforms = ("cpu", "cuda", "tpu")
    with without_kernels():
        exported = jax.export.export(_step(), platforms=platforms)(tiny_variables(), IMAGE, SIZE)
    assert exported.platforms == platforms


def test_a_prediction_for_tpus_has_kernels(step):
    exported = jax.export.export(step, platforms=("tpu",))(tiny_variables(), IMAGE, SIZE)
    assert "tpu_custom_call" in exported.mlir_module()


def test_each_platform_has_its_own_forms(step):
    traced = step.trace(tiny_variables(), IMAGE, SIZE)
    convolutions = {}
    for platform in ("cpu", "cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        convolutions[platform] = text.count("stablehlo.convolution")
    assert convolutions["cuda"] == convolutions["tpu"]
    assert convolutions["cpu"] < convolutions["tpu"]  # the 1x1 ones are products there
