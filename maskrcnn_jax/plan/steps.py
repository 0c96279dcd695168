"""The steps of a run, ready to be compiled for devices that may not be there.

They are those that `train.py` and `eval.py` run, with shapes in place of arrays.
"""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import Mesh

from maskrcnn_jax.checkpoints import state
from maskrcnn_jax.data.config import DataConfig
from maskrcnn_jax.inference import predict_step
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.parallel.mesh import (
    abstract,
    batch_sharding,
    image_sharding,
)
from maskrcnn_jax.training.stages import Stage, make_stages

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config

Shapes = dict[str, jax.ShapeDtypeStruct]


def training(
    config: "Config", num_classes: int, image: tuple[int, int], mesh: Mesh
) -> jax.stages.Lowered:
    """Returns the training step of a recipe; where it has stages, of the one that trains most.

    Args:
        config: the whole configuration, checked.
        num_classes: K.
        image: height and width of the batch's images.
        mesh: as `make_mesh` returns it.
    """
    model = make_model(config.model, num_classes, config.train.remat, config.train.deterministic)
    variables = abstract_variables(model)
    stages = make_stages(config, model, variables["params"], mesh)
    stage = max(stages, key=lambda stage: sum(jax.tree.leaves(stage.trainable)))
    begin = first_state(stage, variables, mesh)
    shapes = batch_shapes(
        config.train.batch_size, *image, config.data, len(config.model.keypoints.names)
    )
    batch = on_mesh(shapes, mesh)
    return _lowered(stage.train_step, mesh, begin, batch)


def prediction(
    config: "Config", num_classes: int, image: tuple[int, int], mesh: Mesh
) -> jax.stages.Lowered:
    """Returns the step that predicts `config.eval.batch_size` images.

    Args:
        config: as `training` takes it.
        num_classes: as `training` takes it.
        image: as `training` takes it.
        mesh: as `training` takes it.
    """
    model = make_model(config.model, num_classes)
    variables = abstract(abstract_variables(model), mesh)
    batch = on_mesh(batch_shapes(config.eval.batch_size, *image, config.data), mesh)
    step = predict_step.jitted(model, mesh)
    return _lowered(step, mesh, variables, batch["image"], batch["image_size"])


def _lowered(step: Any, mesh: Mesh, *shapes: Any) -> jax.stages.Lowered:
    platform = mesh.devices.flat[0].platform
    platforms = ("cuda" if platform == "gpu" else platform,)
    return step.trace(*shapes).lower(lowering_platforms=platforms)


def first_state(stage: Stage, variables: Any, mesh: Mesh) -> Any:
    """Returns the shapes of a stage's state, with their sharding.

    Args:
        stage: of the run.
        variables: shapes of the model's.
        mesh: as `make_mesh` returns it.
    """
    shapes = jax.eval_shape(lambda v: state.create(v, stage.optimizer, stage.averaged), variables)
    return abstract(shapes, mesh)


def batch_shapes(
    images: int, height: int, width: int, config_data: DataConfig, keypoints: int = 0
) -> Shapes:
    """Returns shapes and dtypes of a training batch.

    Args:
        images: B, over all devices.
        height: of the images, pixels.
        width: of the images, pixels.
        config_data: `config.data`.
        keypoints: P of each object; 0: none.
    """
    slots, grid = config_data.max_instances, config_data.mask_size
    pixel = np.uint16 if config_data.depth == 16 else np.uint8
    shapes = {
        "image": ((height, width, config_data.channels), pixel),
        "image_size": ((2,), np.float32),
        "image_valid": ((), bool),
        "gt_boxes": ((slots, 4), np.float32),
        "gt_classes": ((slots,), np.int32),
        "gt_masks": ((slots, grid, grid), np.uint8),
        "gt_crowd": ((slots,), bool),
        "gt_valid": ((slots,), bool),
    }
    if keypoints:
        shapes["gt_keypoints"] = ((slots, keypoints, 3), np.float32)
    return {
        name: jax.ShapeDtypeStruct((images, *shape), dtype)
        for name, (shape, dtype) in shapes.items()
    }


def on_mesh(batch: Shapes, mesh: Mesh) -> Shapes:
    """Gives the shapes of a batch their sharding, as `shard_batch` does."""
    shardings = {"image": image_sharding(mesh)}
    return {
        name: jax.ShapeDtypeStruct(
            array.shape, array.dtype, sharding=shardings.get(name, batch_sharding(mesh))
        )
        for name, array in batch.items()
    }
