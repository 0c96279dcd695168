"""Test-time augmentation: an image is seen several times, and what is found is joined.

As Detectron2's `GeneralizedRCNNWithTTA` does (modeling/test_time_augmentation.py, v0.6): boxes of
all views are brought back into the image and suppressed together; then the mask head sees every box
in every view, and the masks, mirrored where the view was, are averaged.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.images.sizes import Size, pad_image, resize_image
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.detections import Detections
from maskrcnn_jax.models.fpn import POOLED_LEVELS
from maskrcnn_jax.models.mask_rcnn import MaskRCNN, Stages
from maskrcnn_jax.models.mask_scoring.head import scores_of_masks
from maskrcnn_jax.ops.nms import nms
from maskrcnn_jax.parallel import partition

_STRIDE = 32  # the coarsest of the backbone
_SMALLEST, _LARGEST = 0.1, 10.0  # scales


class Views(NamedTuple):
    """How an image is seen.

    Attributes:
        flip: also mirrored, left to right, at every scale.
        scales: besides the usual size 1.
    """

    flip: bool
    scales: tuple[float, ...]


def parse_views(text: str | float | Iterable[str | float]) -> Views:
    """Returns the views of "flip", of scales such as "0.8,1.25", or of both together.

    Args:
        text: parts with commas between them, or a sequence of parts.

    Raises:
        ValueError: a part is neither, or there is none.
    """
    given = str(text).split(",") if isinstance(text, str | int | float) else text
    parts = [str(part).strip() for part in given]
    scales = [_scale(part, text) for part in parts if part != "flip"]
    if not parts:
        raise _unknown(text)
    return Views("flip" in parts, tuple(scale for scale in dict.fromkeys(scales) if scale != 1))


def _scale(part: str, text: object) -> float:
    try:
        scale = float(part)
    except ValueError as error:
        raise _unknown(text) from error
    if not _SMALLEST <= scale <= _LARGEST:
        raise _unknown(text)
    return scale


def _unknown(text: object) -> ValueError:
    return ValueError(
        f"tta is {text!r}; expected flip, scales from {_SMALLEST} to {_LARGEST:g}, or both, such "
        "as flip,0.8,1.25"
    )


def scaled_bucket(bucket: Size, scale: float) -> Size:
    """Returns the bucket of a view: the least multiples of 32 that hold the scaled one."""
    height, width = (max(1, -(-round(side * scale) // _STRIDE)) * _STRIDE for side in bucket)
    return height, width


def scaled_inputs(
    image: np.ndarray, size: np.ndarray, bucket: Size, scales: Sequence[float]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns an image as the network gets it at each of the scales.

    Args:
        image: `[h, w, C]` uint8 or uint16, the original, so that a larger view shows more of it.
        size: `[2]`, its height and width in the network's usual input, pixels.
        bucket: height and width of that input.
        scales: of the views.

    Returns:
        For each scale the input `[H, W, C]`, and the valid height and width `[2]` float32 in it.
    """
    inputs = []
    for scale in scales:
        height, width = (max(1, round(float(side) * scale)) for side in size)
        view = pad_image(resize_image(image, (height, width)), scaled_bucket(bucket, scale))
        inputs.append((view, np.array((height, width), np.float32)))
    return inputs


def predict_views(
    model: MaskRCNN, images: Sequence[jax.Array], sizes: Sequence[jax.Array], flip: bool
) -> tuple[Detections, Stages]:
    """Detects in several views of each image: for `model.apply(..., method=)`.

    Args:
        model: bound to its variables.
        images: for each scale `[B, H, W, C]` as for `MaskRCNN.predict`, those of scale 1 first.
        sizes: for each scale `[B, 2]`.
        flip: see every image mirrored, too.

    Returns:
        The detections, in pixels of the first input, and no stages.
    """
    mirrored = partition.per_image(_mirrored_image)
    views = [
        (size, is_mirrored, *model.predict(mirrored(image, size) if is_mirrored else image, size))
        for image, size in zip(images, sizes, strict=True)
        for is_mirrored in (False, True)[: 1 + flip]
    ]
    base = sizes[0]
    found = [
        found._replace(boxes=_moved(jnp.asarray(found.boxes), size, base, is_mirrored))
        for size, is_mirrored, found, _ in views
    ]
    joined = (
        jnp.concatenate([getattr(view, name) for view in found], axis=1)
        for name in ("boxes", "scores", "classes", "valid")
    )
    boxes, scores, classes, valid = partition.per_image(partial(join, config=model.config))(*joined)
    if not model.config.masks:
        return Detections(boxes, scores, classes, None, valid), {}
    masks, ious = [], []
    for size, is_mirrored, _, stages in views:
        seen = _moved(boxes, base, size, is_mirrored) - model.corner
        masks_of = partial(model.masks, {name: stages[name] for name in POOLED_LEVELS})
        logits, more = model.on_detections(masks_of, valid, seen, classes)
        ious += [more["mask_ious"]] if "mask_ious" in more else []
        mask = jax.nn.sigmoid(logits)
        masks.append(mask[..., ::-1] if is_mirrored else mask)
    mean = jnp.where(valid[..., None, None], sum(masks) / len(masks), 0.0)
    result = Detections(boxes, scores, classes, mean, valid)
    if ious:
        mean_iou = sum(ious) / len(ious)
        result = result._replace(mask_scores=scores_of_masks(scores, mean_iou, valid))
    return result, {}


def join(
    boxes: jax.Array, scores: jax.Array, classes: jax.Array, valid: jax.Array, config: ModelConfig
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns the detections of all views of one image as those of the image.

    Args:
        boxes: `[n, 4]` float32, xyxy, in pixels that all views share.
        scores: `[n]` float32.
        classes: `[n]` int32.
        valid: `[n]` bool.
        config: `config.model`, of whose `detections` the threshold of IoU and the number D are.

    Returns:
        boxes [D, 4], scores [D], classes [D] and valid [D] as in `Detections`.
    """
    settings = config.detections
    keep = nms(boxes, scores, valid, settings.nms_threshold, classes)
    scores, best = jax.lax.top_k(jnp.where(keep, scores, -jnp.inf), settings.max_per_image)
    valid = scores > -jnp.inf
    return (
        jnp.where(valid[:, None], boxes[best], 0.0),
        jnp.where(valid, scores, 0.0),
        jnp.where(valid, classes[best], 0),
        valid,
    )


def _mirrored_image(image: jax.Array, size: jax.Array) -> jax.Array:
    """Mirrors the valid part of an input `[H, W, C]`, which stays at the left."""
    columns, width = jnp.arange(image.shape[1]), size[1].astype(jnp.int32)
    return image[:, jnp.where(columns < width, width - 1 - columns, columns)]


def _moved(boxes: jax.Array, size: jax.Array, new_size: jax.Array, mirror: bool) -> jax.Array:
    """Takes boxes `[B, D, 4]` from one view to another, whose size is `[B, 2]`."""
    ratio = (new_size / size)[:, None, ::-1]
    boxes = boxes * jnp.concatenate([ratio, ratio], axis=-1)
    if not mirror:
        return boxes
    x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
    width = new_size[:, None, 1]
    return jnp.stack([width - x2, y1, width - x1, y2], axis=-1)
