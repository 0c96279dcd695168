"""matterport/Mask_RCNN's detector between its layers, in numpy, from the published definitions.

Boxes are as that project has them inside its network: corners inclusive and divided by the side
less one, so that 0 and 1 are the centres of the outermost pixels; but in the order x1, y1, x2, y2.
Everything is of one image and float64. Sources: `mrcnn/model.py`, `mrcnn/utils.py` and TensorFlow's
documentation of `tf.image.crop_and_resize`.
"""

import numpy as np

STD = np.array([0.1, 0.1, 0.2, 0.2])  # of the deltas, in RPN and box head
SHIFT = np.array([0, 0, 1, 1])


def normalised(boxes, shape):
    """From continuous pixels of an input of `shape` (height, width); `norm_boxes`."""
    return (np.asarray(boxes, np.float64) - SHIFT) / _sides(shape)


def pixels(boxes, shape):
    """And back; `denorm_boxes` before its rounding."""
    return boxes * _sides(shape) + SHIFT


def _sides(shape):
    return np.tile(np.array(shape[::-1]) - 1.0, 2)


def anchors(level_shapes, sizes, ratios):
    """Continuous pixels, by level, row, column, ratio (width / height); `generate_anchors`."""
    boxes = []
    for k, ((height, width), size) in enumerate(zip(level_shapes, sizes, strict=True)):
        stride = 4 * 2**k
        for i, j in np.ndindex(height, width):
            for ratio in ratios:
                half = np.array([size * np.sqrt(ratio), size / np.sqrt(ratio)]) / 2
                centre = np.array([j, i]) * stride
                boxes.append([*(centre - half), *(centre + half)])
    return np.array(boxes)


def decoded(boxes, deltas):
    """`apply_box_deltas_graph`, of deltas as the network gives them."""
    deltas = deltas * STD
    sides = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + 0.5 * sides + deltas[..., :2] * sides
    sides = sides * np.exp(deltas[..., 2:])
    return np.concatenate([centre - 0.5 * sides, centre + 0.5 * sides], axis=-1)


def clipped(boxes, limits):
    """`clip_boxes_graph` to a window from 0 to `limits` (x, y)."""
    return np.clip(boxes, 0, np.tile(limits, 2))


def greedy(boxes, scores, threshold):
    """Indices that non-maximum suppression keeps, best first."""
    rest, kept = list(np.argsort(-scores, kind="stable")), []
    while rest:
        best = rest.pop(0)
        kept.append(int(best))
        rest = [i for i in rest if _iou(boxes[best], boxes[i]) <= threshold]
    return kept


def _iou(a, b):
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    areas = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])
    return sides.prod() / (areas - sides.prod()) if sides.all() else 0.0


def proposals(logits, deltas, anchors, pre_nms, post_nms, threshold):
    """`ProposalLayer`: normalised boxes, best first, and the anchor that each comes from."""
    best = np.argsort(-logits, kind="stable")[:pre_nms]
    boxes = clipped(decoded(anchors[best], deltas[best]), (1, 1))
    kept = greedy(boxes, logits[best], threshold)[:post_nms]
    return boxes[kept], best[kept]


def detections(probabilities, deltas, rois, window, threshold, min_score, max_out):
    """`refine_detections_graph`: normalised boxes, classes and scores, best first."""
    found = []
    classes = probabilities.argmax(axis=1)
    for label in range(1, probabilities.shape[1]):
        rows = np.flatnonzero((classes == label) & (probabilities[:, label] >= min_score))
        boxes = clipped(decoded(rois[rows], deltas[rows, label]), window)
        for i in greedy(boxes, probabilities[rows, label], threshold):
            found.append((probabilities[rows[i], label], label, boxes[i]))
    found.sort(key=lambda one: -one[0])
    scores, labels, boxes = zip(*found[:max_out], strict=True)
    return np.array(boxes), np.array(labels), np.array(scores)


def pooled(pyramid, boxes, shape, size, canonical_size=224.0):
    """`PyramidROIAlign`: `[N, size, size, C]` of normalised boxes."""
    out = []
    for box in boxes:
        area = np.prod(box[2:] - box[:2])
        level = np.log2(max(np.sqrt(area), 1e-9) / (canonical_size / np.sqrt(np.prod(shape))))
        level = int(np.clip(4 + np.round(level), 2, 5))
        out.append(crop_and_resize(pyramid[level - 2], box, size))
    return np.array(out)


def crop_and_resize(feature, box, size):
    """`tf.image.crop_and_resize` of `[h, w, C]` by one normalised box, with 0 outside."""
    out = np.zeros((size, size, feature.shape[-1]))
    length = np.array(feature.shape[:2]) - 1
    low, high = box[[1, 0]] * length, box[[3, 2]] * length  # y, x
    for i, j in np.ndindex(size, size):
        share = np.array([i, j]) / (size - 1) if size > 1 else 0.5
        position = low + (high - low) * share
        if (position < -1e-6 * length).any() or (position > (1 + 1e-6) * length).any():
            continue
        position = np.clip(position, 0, length)
        top, left = np.floor(position).astype(int)
        bottom, right = np.ceil(position).astype(int)
        dy, dx = position - (top, left)
        above = (1 - dx) * feature[top, left] + dx * feature[top, right]
        below = (1 - dx) * feature[bottom, left] + dx * feature[bottom, right]
        out[i, j] = (1 - dy) * above + dy * below
    return out
