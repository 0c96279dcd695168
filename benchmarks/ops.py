"""Single operations: `python -m benchmarks.ops [--peer torchvision --peer-python PATH]`.

NMS of 1000, 2000 and 5000 boxes; RoIAlign of 512 and 1000 boxes on the pyramid of an 800x1344
image, forward and with its gradient; matching of that image's anchors; pasting of 100 masks.
`--only NAME` runs one of them.
"""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure
from benchmarks.peer import LAYOUTS, peers
from maskrcnn_jax import config as default_config
from maskrcnn_jax.images.paste import full_mask, paste_crop
from maskrcnn_jax.ops import boxes as box_ops
from maskrcnn_jax.ops.anchors import pyramid_anchors
from maskrcnn_jax.ops.matching import match
from maskrcnn_jax.ops.nms import nms
from maskrcnn_jax.ops.roi_align import assign_levels, multilevel_roi_align

_STRIDES = (4, 8, 16, 32)


def main(argv: list[str] | None = None) -> list[dict]:
    parser = measure.argument_parser(__doc__, rounds=15)
    measure.add_peer_arguments(parser)
    parser.add_argument("--only", choices=tuple(_OPERATIONS))
    arguments = measure.parse(parser, argv)
    chosen = [arguments.only] if arguments.only else list(_OPERATIONS)
    return [line for name in chosen for line in _OPERATIONS[name](arguments)]


def _measure_nms(arguments) -> Iterator[dict]:
    for number in (50,) if arguments.tiny else (1000, 2000, 5000):
        boxes = crowded_boxes(number, (800, 1344))
        scores = np.random.default_rng(1).random(number, np.float32)
        function = jax.jit(lambda boxes, scores: nms(boxes, scores, scores >= 0, 0.7))
        program, facts = measure.compiled(function, boxes, scores)
        ours = _side(program, boxes, scores, count=lambda keep: {"kept": int(keep.sum())})
        arrays = {"boxes": boxes, "scores": scores}
        with peers(arguments, "nms", arrays, threshold=0.7) as (others, versions):
            yield from measure.report(
                "ops",
                f"NMS, {number} boxes",
                {"boxes": number, "threshold": 0.7},
                {measure.OURS: ours, **others},
                arguments.rounds,
                facts=facts,
                peer_versions=versions,
            )


def _measure_roi_align(arguments) -> Iterator[dict]:
    shape, channels = ((64, 96), 8) if arguments.tiny else ((800, 1344), 256)
    rng = np.random.default_rng(0)
    pyramid = [
        rng.standard_normal((1, shape[0] // s, shape[1] // s, channels), np.float32)
        for s in _STRIDES
    ]
    for number in (20,) if arguments.tiny else (512, 1000):
        boxes = random_boxes(number, shape, 16, min(shape) * 3 / 4)[None]
        for gradient in (False, True):
            function = _pool_with_gradient if gradient else _pool
            program, facts = measure.compiled(jax.jit(function), pyramid, boxes)
            ours = _side(program, pyramid, boxes, count=lambda _, n=number: {"rois": n})
            arrays = {f"p{i}": level for i, level in enumerate(pyramid, start=2)} | {"boxes": boxes}
            options = {"size": 7, "image_shape": shape, "gradient": gradient}
            with peers(arguments, "roi_align", arrays, LAYOUTS, **options) as (others, versions):
                yield from measure.report(
                    "ops",
                    f"RoIAlign, {number} boxes" + (", with gradient" if gradient else ""),
                    {"boxes": number, "image": shape, "channels": channels, "output": 7},
                    {measure.OURS: ours, **others},
                    arguments.rounds,
                    facts=facts,
                    peer_versions=versions,
                )


def _pool(pyramid, boxes):
    level = assign_levels(boxes, len(pyramid), 4, 224.0)
    return multilevel_roi_align(pyramid, boxes, level, [1 / s for s in _STRIDES], 7)


def _pool_with_gradient(pyramid, boxes):
    pooled, pull_back = jax.vjp(partial(_pool, boxes=boxes), pyramid)
    return pull_back(pooled)


def _measure_targets(arguments) -> Iterator[dict]:
    shape = (64, 96) if arguments.tiny else (800, 1344)
    level_shapes = [(-(-shape[0] // s), -(-shape[1] // s)) for s in (*_STRIDES, 64)]
    settings = default_config.get_config().model.anchors
    anchors = np.concatenate(pyramid_anchors(level_shapes, shape, **asdict(settings)))
    gt_boxes = random_boxes(20, shape, 32, min(shape) / 2)

    @jax.jit
    def targets(anchors, gt_boxes):
        valid = jnp.ones(len(gt_boxes), bool)
        matched, label = match(box_ops.iou(gt_boxes, anchors), valid, 0.7, 0.3, True)
        return label, box_ops.encode(gt_boxes[matched], anchors, (1.0, 1.0, 1.0, 1.0))

    program, facts = measure.compiled(targets, anchors, gt_boxes)
    ours = _side(
        program, anchors, gt_boxes, count=lambda found: {"positive": int((found[0] == 1).sum())}
    )
    arrays = {"anchors": anchors, "gt_boxes": gt_boxes}
    with peers(arguments, "targets", arrays) as (others, versions):
        yield from measure.report(
            "ops",
            "anchor targets",
            {"anchors": len(anchors), "objects": len(gt_boxes)},
            {measure.OURS: ours, **others},
            arguments.rounds,
            facts=facts,
            peer_versions=versions,
        )


def _measure_paste(arguments) -> Iterator[dict]:
    number, shape = (5, (64, 96)) if arguments.tiny else (100, (800, 1344))
    boxes = random_boxes(number, shape, 32, min(shape) / 2)
    masks = np.random.default_rng(2).random((number, 28, 28), np.float32)

    def paste():
        crops = [
            paste_crop(*one, *shape, rule="torchvision") for one in zip(masks, boxes, strict=True)
        ]
        return np.stack([full_mask(crop, *shape) for crop in crops])

    ours = _side(paste, count=lambda pasted: {"masks": len(pasted)})
    arrays = {"masks": masks, "boxes": boxes}
    with peers(arguments, "paste", arrays, image_shape=shape) as (others, versions):
        yield from measure.report(
            "ops",
            "mask pasting",
            {"masks": number, "image": shape},
            {measure.OURS: ours, **others},
            arguments.rounds,
            facts={},
            peer_versions=versions,
        )


_OPERATIONS = {
    "nms": _measure_nms,
    "roi_align": _measure_roi_align,
    "targets": _measure_targets,
    "paste": _measure_paste,
}


def random_boxes(number: int, shape: tuple, smallest: float, largest: float) -> np.ndarray:
    """Returns [number, 4] float32 boxes with sides of all magnitudes, centres in the image."""
    rng = np.random.default_rng(0)
    centres = rng.random((number, 2)) * shape[::-1]
    halves = np.exp(rng.uniform(np.log(smallest), np.log(largest), (number, 2))) / 2
    corners = np.clip(np.stack([centres - halves, centres + halves], 1), 0, shape[::-1])
    return corners.reshape(number, 4).astype(np.float32)


def crowded_boxes(number: int, shape: tuple) -> np.ndarray:
    """Returns [number, 4] float32 boxes, ten around each of a tenth as many objects."""
    objects = np.tile(random_boxes(-(-number // 10), shape, 16, 256), (10, 1))[:number]
    sides = np.tile(objects[:, 2:] - objects[:, :2], 2)
    moved = objects + 0.08 * sides * np.random.default_rng(3).standard_normal((number, 4))
    return moved.astype(np.float32)


def _side(function, *arguments, count) -> measure.Side:
    placed = jax.device_put(arguments)

    def side():
        seconds, result = measure.timed(function, *placed)
        return seconds, count(result)

    return side


if __name__ == "__main__":
    main()
