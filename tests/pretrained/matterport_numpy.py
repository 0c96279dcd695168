"""matterport/Mask_RCNN's detector in NumPy, stage by stage, for one image.

Written from what mrcnn/model.py and mrcnn/utils.py define, in float64 and without a thought to
speed. Boxes are (y1, x1, y2, x2) in its normalised coordinates: 0 is the middle of the first pixel
and 1 the middle of the last one. Weights are "layer/weight" as in its files.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

MEAN_PIXEL = (123.7, 116.8, 103.9)
BOX_STD = (0.1, 0.1, 0.2, 0.2)
STRIDES = (4, 8, 16, 32, 64)


class Settings(NamedTuple):
    """What its Config calls RPN_ANCHOR_SCALES, RPN_ANCHOR_RATIOS, PRE_NMS_LIMIT and so on."""

    anchor_scales: tuple[float, ...] = (32, 64, 128, 256, 512)
    anchor_ratios: tuple[float, ...] = (0.5, 1, 2)  # width / height
    pre_nms_limit: int = 6000
    post_nms_rois: int = 1000
    rpn_nms_threshold: float = 0.7
    canonical_size: float = 224
    detection_nms_threshold: float = 0.3
    min_confidence: float = 0
    max_instances: int = 100


# Layers of [..., height, width, channels].


def relu(x):
    return np.maximum(x, 0)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def conv(x, weights, name, stride=1, padding=0):
    kernel, bias = weights[f"{name}/kernel"], weights[f"{name}/bias"]
    margin = (padding, padding)
    x = np.pad(x, [(0, 0)] * (x.ndim - 3) + [margin, margin, (0, 0)])
    windows = sliding_window_view(x, kernel.shape[:2], axis=(-3, -2))
    windows = windows[..., ::stride, ::stride, :, :, :]  # [..., h, w, channels, row, column]
    return np.tensordot(windows, kernel, ([-3, -2, -1], [2, 0, 1])) + bias


def batch_norm(x, weights, name, epsilon=1e-3):
    gamma, beta = weights[f"{name}/gamma"], weights[f"{name}/beta"]
    mean, variance = weights[f"{name}/moving_mean"], weights[f"{name}/moving_variance"]
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def max_pool(x, top_left, bottom_right):
    """3x3 with stride 2, after so many rows and columns of nothing."""
    margin = (top_left, bottom_right)
    x = np.pad(x, [margin, margin, (0, 0)], constant_values=-np.inf)
    return sliding_window_view(x, (3, 3), axis=(0, 1))[::2, ::2].max((-2, -1))


def max_pool_same(x):
    """TensorFlow's "SAME": enough padding for every second pixel, the odd one at the end."""
    assert x.shape[0] % 2 == x.shape[1] % 2 == 0
    return max_pool(x, 0, 1)


def transposed_conv(x, weights, name):
    """2x2 with stride 2: every pixel becomes a block. The kernel is (row, column, out, in)."""
    kernel = weights[f"{name}/kernel"]
    out = np.zeros((*x.shape[:-3], 2 * x.shape[-3], 2 * x.shape[-2], kernel.shape[2]), x.dtype)
    for row in (0, 1):
        for column in (0, 1):
            out[..., row::2, column::2, :] = x @ kernel[row, column].T
    return out + weights[f"{name}/bias"]


# From the image to the proposals.


def mold(image):
    """image: [H, W, 3] uint8, RGB, padded with zeros."""
    return image.astype(np.float64) - MEAN_PIXEL


def resnet(x, weights, blocks, names, epsilon, pool):
    """C2 to C5.

    Args:
        x: [H, W, 3].
        weights: of the network.
        blocks: in each of the four stages.
        names: (stage, block, branch) -> names of convolution and norm; stage 1 is the stem, block
            counts from 0 and branch 0 is the shortcut.
        epsilon: of the norms.
        pool: the max pooling.
    """

    def layer(x, name, **kwargs):
        return batch_norm(conv(x, weights, name[0], **kwargs), weights, name[1], epsilon)

    x = pool(relu(layer(x, names(1, 0, 0), stride=2, padding=3)))
    features = []
    for stage, number in enumerate(blocks, start=2):
        for block in range(number):
            stride = 2 if block == 0 and stage > 2 else 1
            y = relu(layer(x, names(stage, block, 1), stride=stride))
            y = relu(layer(y, names(stage, block, 2), padding=1))
            y = layer(y, names(stage, block, 3))
            if block == 0:
                x = layer(x, names(stage, block, 0), stride=stride)
            x = relu(x + y)
        features.append(x)
    return features


def older_names(stage, block, branch):
    if stage == 1:
        return "conv1", "bn_conv1"
    name = f"{stage}{'abcdefghijklmnopqrstuvw'[block]}_branch{['1', '2a', '2b', '2c'][branch]}"
    return f"res{name}", f"bn{name}"


def fpn(features, weights):
    """P2 to P6."""
    pyramid, merged = [], None
    for level, feature in zip((5, 4, 3, 2), reversed(features), strict=True):
        lateral = conv(feature, weights, f"fpn_c{level}p{level}")
        merged = lateral if merged is None else lateral + merged.repeat(2, 0).repeat(2, 1)
        pyramid.insert(0, conv(merged, weights, f"fpn_p{level}", padding=1))
    return [*pyramid, pyramid[-1][::2, ::2]]


def rpn(level, weights):
    """Probabilities (background, foreground) [A, 2] and deltas (dy, dx, dh, dw) [A, 4]."""
    shared = relu(conv(level, weights, "rpn_conv_shared", padding=1))
    logits = conv(shared, weights, "rpn_class_raw").reshape(-1, 2)
    return softmax(logits), conv(shared, weights, "rpn_bbox_pred").reshape(-1, 4)


def anchors(image_shape, settings):
    """[A, 4], not normalised: from (0, 0) on, every stride, each ratio."""
    boxes = []
    for stride, scale in zip(STRIDES, settings.anchor_scales, strict=True):
        for y in range(0, image_shape[0], stride):
            for x in range(0, image_shape[1], stride):
                for ratio in settings.anchor_ratios:
                    h, w = scale / np.sqrt(ratio), scale * np.sqrt(ratio)
                    boxes.append((y - h / 2, x - w / 2, y + h / 2, x + w / 2))
    return np.array(boxes)


def normalised(boxes, image_shape):
    height, width = image_shape
    return (boxes - [0, 0, 1, 1]) / [height - 1, width - 1, height - 1, width - 1]


def denormalised(boxes, image_shape):
    height, width = image_shape
    return boxes * [height - 1, width - 1, height - 1, width - 1] + [0, 0, 1, 1]


def refined(boxes, deltas):
    """The boxes moved by deltas, which their deviations have not been applied to."""
    dy, dx, dh, dw = (deltas * BOX_STD).T
    y1, x1, y2, x2 = boxes.T
    height, width = (y2 - y1) * np.exp(dh), (x2 - x1) * np.exp(dw)
    y, x = (y1 + y2) / 2 + dy * (y2 - y1), (x1 + x2) / 2 + dx * (x2 - x1)
    return np.stack([y - height / 2, x - width / 2, y + height / 2, x + width / 2], axis=1)


def clipped(boxes, window):
    return np.clip(boxes, [*window[:2], *window[:2]], [*window[2:], *window[2:]])


def overlap(a, b):
    height = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    width = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - height * width
    return height * width / union if union > 0 else 0


def non_max_suppression(boxes, scores, threshold, limit):
    """Indices of the boxes that are kept, best first."""
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if all(overlap(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return np.array(kept[:limit], int)


def proposals(probabilities, deltas, normalised_anchors, settings):
    """Boxes [N, 4] and scores [N], best first, of the anchors of all levels."""
    scores = probabilities[:, 1]
    best = np.argsort(-scores, kind="stable")[: settings.pre_nms_limit]
    boxes = clipped(refined(normalised_anchors[best], deltas[best]), (0, 0, 1, 1))
    kept = non_max_suppression(
        boxes, scores[best], settings.rpn_nms_threshold, settings.post_nms_rois
    )
    return boxes[kept], scores[best][kept]


# From the proposals to the detections.


def level_of(box, image_shape, canonical_size=224):
    """2 to 5."""
    height, width = box[2] - box[0], box[3] - box[1]
    if height <= 0 or width <= 0:
        return 2
    area = image_shape[0] * image_shape[1]
    level = np.log2(np.sqrt(height * width) / (canonical_size / np.sqrt(area)))
    return int(np.clip(4 + np.round(level), 2, 5))


def crop_and_resize(feature, box, size):
    """TensorFlow's, bilinear, [size, size, C].

    A sample outside the map is 0. Where a box ends on the map's edge, TensorFlow leaves it to the
    rounding whether its last sample is outside; here, as in exact arithmetic, it is not.
    """

    def axis(low, high, length):
        position = (low + (high - low) * np.arange(size) / (size - 1)) * (length - 1)
        inside = (position > -1e-5) & (position < length - 1 + 1e-5)
        return np.maximum(1 - np.abs(position[:, None] - np.arange(length)), 0) * inside[:, None]

    rows = axis(box[0], box[2], feature.shape[0])
    columns = axis(box[1], box[3], feature.shape[1])
    return np.einsum("ih,jw,hwc->ijc", rows, columns, feature)


def pooled(pyramid, boxes, image_shape, size, settings):
    """[N, size, size, C], each box from the level of its size."""
    levels = [level_of(box, image_shape, settings.canonical_size) for box in boxes]
    return np.stack(
        [
            crop_and_resize(pyramid[level - 2], box, size)
            for level, box in zip(levels, boxes, strict=True)
        ]
    )


def box_head(x, weights):
    """Class logits [N, K] and deltas [N, K, 4] of pooled features; class 0 is the background."""
    for i in (1, 2):
        x = conv(x, weights, f"mrcnn_class_conv{i}")
        x = relu(batch_norm(x, weights, f"mrcnn_class_bn{i}"))
    x = x[:, 0, 0]

    def dense(name):
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    return dense("mrcnn_class_logits"), dense("mrcnn_bbox_fc").reshape(len(x), -1, 4)


def detections(rois, probabilities, deltas, window, settings):
    """Boxes, classes and scores, best first. `window` is where the image is, normalised."""
    classes = probabilities.argmax(1)
    rows = np.arange(len(rois))
    scores = probabilities[rows, classes]
    boxes = clipped(refined(rois, deltas[rows, classes]), window)
    kept = []
    for k in range(1, probabilities.shape[1]):
        chosen = np.flatnonzero((classes == k) & (scores >= settings.min_confidence))
        limits = settings.detection_nms_threshold, settings.max_instances
        kept += chosen[non_max_suppression(boxes[chosen], scores[chosen], *limits)].tolist()
    kept = sorted(kept, key=lambda i: -scores[i])[: settings.max_instances]
    return boxes[kept], classes[kept], scores[kept]


def mask_head(x, weights):
    """Logits [N, 2 S, 2 S, K]."""
    for i in (1, 2, 3, 4):
        x = conv(x, weights, f"mrcnn_mask_conv{i}", padding=1)
        x = relu(batch_norm(x, weights, f"mrcnn_mask_bn{i}"))
    return conv(relu(transposed_conv(x, weights, "mrcnn_mask_deconv")), weights, "mrcnn_mask")


def detect(image, window, weights, settings, blocks=(3, 4, 6, 3), dtype=np.float64):
    """All stages by name.

    Args:
        image: [H, W, 3] uint8, RGB, with zeros around it.
        window: (y1, x1, y2, x2), where it lies, in pixels.
        dtype: that layers compute in, and to which boxes and pooled features are rounded. float32
            shows what rounding does to the float64 values.
    """
    image_shape = image.shape[:2]
    weights = {name: array.astype(dtype) for name, array in weights.items()}
    molded = mold(image).astype(dtype)
    features = resnet(molded, weights, blocks, older_names, 1e-3, max_pool_same)
    pyramid = fpn(features, weights)
    probabilities, deltas = (
        np.concatenate(x) for x in zip(*(rpn(level, weights) for level in pyramid), strict=True)
    )
    all_anchors = normalised(anchors(image_shape, settings), image_shape)
    rois, roi_scores = proposals(probabilities, deltas, all_anchors.astype(dtype), settings)
    rois = rois.astype(dtype)
    box_features = pooled(pyramid, rois, image_shape, 7, settings).astype(dtype)
    class_logits, box_deltas = box_head(box_features, weights)
    window = normalised(np.array(window), image_shape)
    boxes, classes, scores = detections(rois, softmax(class_logits), box_deltas, window, settings)
    boxes = boxes.astype(dtype)
    mask_features = pooled(pyramid, boxes, image_shape, 14, settings).astype(dtype)
    mask_logits = mask_head(mask_features, weights)[np.arange(len(boxes)), :, :, classes]
    return dict(
        image=molded, features=features, pyramid=pyramid, anchors=all_anchors,
        rpn_probabilities=probabilities, rpn_deltas=deltas, rois=rois, roi_scores=roi_scores,
        box_features=box_features, class_logits=class_logits, box_deltas=box_deltas,
        boxes=boxes, classes=classes, scores=scores,
        mask_features=mask_features, masks=1 / (1 + np.exp(-mask_logits)),
    )  # fmt: skip
