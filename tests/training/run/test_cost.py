"""The estimate of a run's cost."""

import jax
import numpy as np

from maskrcnn_jax import config_flags
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.training.run.cost import hopeless_on_cpu, step_flops
from tests.end_to_end.tiny import get_config


def test_the_pyramid_is_what_xla_counts():
    """Within a factor of two of the forward pass, without the heads."""
    config = get_config()
    config.data.buckets = ((128, 128),)
    config.model.backbone.width = config.model.fpn.channels = 64
    model = make_model(config.model, 3)
    image = jax.ShapeDtypeStruct((1, 128, 128, 3), np.uint8)
    size = jax.ShapeDtypeStruct((1, 2), np.float32)
    features = jax.jit(lambda v, *arguments: model.apply(v, *arguments, method="features"))
    counted = features.lower(abstract_variables(model), image, size).cost_analysis()["flops"]
    config.model.roi.samples_per_image, config.train.batch_size = 0, 1
    assert 0.5 < step_flops(config) / 3 / counted < 2


def test_coco_on_a_cpu_is_hopeless_and_shapes_are_not():
    coco, shapes = config_flags.read("coco", []), config_flags.read("shapes", [])
    said = hopeless_on_cpu(coco, "cpu", coco.train.steps)
    assert "90,000 steps" in said
    assert "days with" in said
    assert hopeless_on_cpu(coco, "gpu", coco.train.steps) == ""
    assert hopeless_on_cpu(shapes, "cpu", shapes.train.steps) == ""
