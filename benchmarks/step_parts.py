"""The parts of the training step and of the prediction, each a function of its own.

They are those of `models/mask_rcnn.py`, and the shapes between them come from tracing it. A
`_gradient` is the backward pass of a part, with what it needs of the forward pass.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from benchmarks import detector
from maskrcnn_jax.config import Config
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.detections import detect
from maskrcnn_jax.models.losses import rpn_losses
from maskrcnn_jax.models.rpn import Proposals, propose
from maskrcnn_jax.models.targets import GroundTruth, anchor_targets, sample_rois
from maskrcnn_jax.models.trainable import trainable_mask
from maskrcnn_jax.ops.anchors import pyramid_anchors
from maskrcnn_jax.ops.masks import crop_targets
from maskrcnn_jax.plan.steps import batch_shapes

Part = tuple[Callable, tuple]  # a function, and the shapes of its arguments


class Parts:
    """The parts of a detector's steps, as functions and the shapes of their arguments.

    Args:
        config: the whole configuration.
        images, height, width: of a batch.
    """

    names = (
        "features", "features_gradient", "rpn_head", "rpn_head_gradient", "proposals",
        "anchor_targets", "rpn_losses_gradient", "roi_sampling", "box_pooling",
        "box_pooling_gradient", "box_head_gradient", "mask_pooling", "mask_pooling_gradient",
        "mask_targets", "mask_head_gradient", "proposals_predict", "box_pooling_predict",
        "detections_predict", "mask_head_predict",
    )  # fmt: skip

    def __init__(self, config: Config, images: int, height: int, width: int):
        self.model = make_model(config.model, detector.NUM_CLASSES)
        self.config, self.image_shape = config.model, (height, width)
        self.variables = abstract_variables(self.model)
        self.params = self.variables["params"]
        self.trainable = trainable_mask(self.params, config.model, config.train.layers)
        self.batch = batch_shapes(images, height, width, config.data)
        self.key = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), images))
        _, self.train = jax.eval_shape(self._losses, self.variables, self.batch)
        _, self.eval = jax.eval_shape(
            self._predict, self.variables, self.batch["image"], self.batch["image_size"]
        )
        self.pyramid = {f"p{level}": self.train[f"p{level}"] for level in range(2, 7)}

    def put(self, variables: dict, batch: dict) -> None:
        """Puts arrays where there were shapes, so that the parts can be run.

        Args:
            variables: of the detector, on the device.
            batch: of training, likewise.
        """
        self.variables, self.batch = variables, batch
        self.params = variables["params"]
        self.key = jax.random.split(jax.random.key(0), len(batch["image"]))
        _, self.train = jax.jit(self._losses)(variables, batch)
        _, self.eval = jax.jit(self._predict)(variables, batch["image"], batch["image_size"])
        self.pyramid = {name: self.train[name] for name in self.pyramid}

    def named(self, name: str) -> Part:
        """Returns a part of `names`."""
        if name.endswith("_gradient"):
            return self._gradient(*getattr(self, name.removesuffix("_gradient"))())
        mode = "eval" if name.endswith("_predict") else "train"
        method = getattr(self, name.removesuffix("_predict"))
        return method(mode) if mode == "eval" else method()

    def features(self) -> Part:
        def forward(params, statistics, image, image_size):
            return self._apply(lambda m: m.features(image, image_size)[0], params, statistics)

        statistics = self.variables["batch_stats"]
        return forward, (self.params, statistics, self.batch["image"], self.batch["image_size"])

    def rpn_head(self) -> Part:
        def forward(params_and_pyramid):
            params, pyramid = params_and_pyramid
            return self._apply(lambda m: m.rpn(pyramid), params, {})

        return forward, ((self.params, self.pyramid),)

    def proposals(self, mode: str = "train") -> Part:
        rpn, anchors = self.config.rpn, self._anchors()

        def of_image(logits, deltas, limits):
            return propose(
                logits, deltas, anchors, limits,
                pre_nms_top_n=getattr(rpn, f"pre_nms_top_n_{mode}"),
                post_nms_top_n=getattr(rpn, f"post_nms_top_n_{mode}"),
                nms_threshold=rpn.nms_threshold, min_size=rpn.min_size,
                coder_weights=rpn.coder_weights,
            )  # fmt: skip

        function, shapes = self.rpn_head()
        logits, deltas = jax.eval_shape(function, *shapes)
        return jax.vmap(of_image), (logits, deltas, self.batch["image_size"])

    def anchor_targets(self) -> Part:
        anchors = np.concatenate(self._anchors())
        of_image = lambda key, gt: anchor_targets(key, anchors, gt, self.config)  # noqa: E731
        return jax.vmap(of_image), (self.key, self._ground_truth())

    def rpn_losses(self) -> Part:
        function, shapes = self.anchor_targets()
        wanted = jax.eval_shape(function, *shapes)
        anchors = np.concatenate(self._anchors())

        def forward(predicted, wanted):
            return rpn_losses(*predicted, wanted, anchors, self.config.rpn)

        return forward, ((self.train["rpn_logits"], self.train["rpn_deltas"]), wanted)

    def roi_sampling(self) -> Part:
        of_image = lambda key, boxes, gt: sample_rois(key, boxes, gt, self.config)  # noqa: E731
        return jax.vmap(of_image), (self.key, self._proposals(self.train), self._ground_truth())

    def box_pooling(self, mode: str = "train") -> Part:
        stages = self.train if mode == "train" else self.eval
        boxes = stages["rois" if mode == "train" else "proposals"]
        return self._pooling(boxes, self.config.box_head.pool_size)

    def mask_pooling(self) -> Part:
        boxes = self._first(self.train["rois"])
        return self._pooling(boxes, self.config.mask_head.pool_size)

    def box_head(self) -> Part:
        def forward(params_and_features):
            params, features = params_and_features
            return self._apply(lambda m: m.box_head(features, 0), params, {})

        return forward, ((self.params, self.train["box_features"]),)

    def mask_targets(self) -> Part:
        size, rois = self.train["mask_logits"].shape[-1], self.train["rois"]
        of_image = lambda *arrays: crop_targets(*arrays, size)  # noqa: E731
        gt, matched = self._ground_truth(), self._first(self.train["roi_matched"])
        return jax.vmap(of_image), (gt.masks, gt.boxes, self._first(rois), matched)

    def mask_head(self, mode: str = "train") -> Part:
        stages = self.train if mode == "train" else self.eval
        features = stages["mask_features"]
        classes = jax.ShapeDtypeStruct(features.shape[:2], jnp.int32)

        def forward(params_and_features, classes):
            params, features = params_and_features
            return self._apply(lambda m: m.mask_head(features, classes, 0), params, {})

        return forward, ((self.params, features), classes)

    def detections(self, mode: str) -> Part:
        stages = self.eval
        of_image = lambda *arrays: detect(*arrays, self.config)  # noqa: E731
        arrays = (stages["class_logits"], stages["box_deltas"], self._proposals(stages))
        return jax.vmap(of_image), (*arrays, self.batch["image_size"])

    def _gradient(self, forward: Callable, shapes: tuple) -> Part:
        """Returns the backward pass by the first argument; parameters that are frozen stay so."""
        first, *others = shapes

        def backward(first, others, cotangent):
            _, pull = jax.vjp(lambda first: forward(first, *others), first)
            return pull(cotangent)

        return backward, (first, tuple(others), jax.eval_shape(forward, *shapes))

    def _apply(self, method: Callable, params: Any, statistics: Any) -> Any:
        params = jax.tree.map(
            lambda p, t: p if t else jax.lax.stop_gradient(p), params, self.trainable
        )
        return nn.apply(method, self.model)({"params": params, "batch_stats": statistics})

    def _pooling(self, boxes: jax.ShapeDtypeStruct, size: int) -> Part:
        levels = {name: self.pyramid[name] for name in ("p2", "p3", "p4", "p5")}
        pool = nn.apply(lambda m, levels, boxes: m.pool(levels, boxes, size), self.model)
        return (lambda levels, boxes: pool({}, levels, boxes)), (levels, boxes)

    def _losses(self, variables, batch):
        key = jax.random.key(0)
        return self.model.apply(variables, batch, key, method="losses", mutable=["batch_stats"])[0]

    def _predict(self, variables, image, image_size):
        return self.model.apply(variables, image, image_size, method="predict")

    def _anchors(self) -> list:
        shapes = [level.shape[1:3] for level in self.pyramid.values()]
        return pyramid_anchors(shapes, self.image_shape, **asdict(self.config.anchors))

    def _ground_truth(self) -> GroundTruth:
        batch = self.batch
        return GroundTruth(
            batch["gt_boxes"], batch["gt_classes"], batch["gt_masks"], batch["gt_valid"],
            batch["gt_crowd"], batch["image_valid"],
        )  # fmt: skip

    def _proposals(self, stages: dict) -> Proposals:
        names = ("proposals", "proposal_scores", "proposal_valid")
        return Proposals(*(stages[name] for name in names))

    def _first(self, array: Any) -> Any:
        slots = self.train["mask_features"].shape[1]
        if isinstance(array, jax.Array):
            return array[:, :slots]
        shape = (array.shape[0], slots, *array.shape[2:])
        return jax.ShapeDtypeStruct(shape, array.dtype)
