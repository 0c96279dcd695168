"""Predictions beside the truth."""

import numpy as np

from maskrcnn_jax.data.formats import shapes
from maskrcnn_jax.evaluation import pictures
from maskrcnn_jax.images.paste import MaskCrop
from maskrcnn_jax.inference.result import Result
from maskrcnn_jax.visualization.style import color


def _result(record, masks, classes, scores):
    boxes = [[np.where(m.any(0))[0][0], np.where(m.any(1))[0][0], 64, 64] for m in masks]
    return Result(
        boxes=np.array(boxes, np.float32),
        scores=np.array(scores, np.float32),
        classes=np.array(classes, np.int32),
        class_names=tuple("abc"[k - 1] for k in classes),
        crops=tuple(MaskCrop(mask, 0, 0) for mask in masks),
        height=record.height,
        width=record.width,
    )


def test_a_found_object_has_one_colour_in_both_pictures():
    dataset = shapes.read(count=1, seed=3, size=64)
    (record,) = dataset.records
    count = len(record.boxes)
    assert count > 1
    masks = [pictures.segmentation.to_mask(s, 64, 64) > 0 for s in record.segmentations]
    last, classes = masks[-1], list(record.classes)
    wrong = classes[0] % 3 + 1
    labels, scores = [classes[-1], wrong, classes[-1]], [0.9, 0.8, 0.1]
    result = _result(record, [last, masks[0], last], labels, scores)
    shown = result.chosen(np.array([0, 1]))
    numbers = pictures._colors(shown, record)
    assert numbers == [count - 1, count + 1]  # the second is of another class
    picture = pictures.comparison(dataset.read_image(record), record, result, dataset.class_names)
    half = (picture.shape[1] - 6) // 2
    left, right = picture[28:, :half], picture[28:, -half:]
    paint = np.array(color(count - 1))
    assert (left == paint).all(-1).sum() > 100
    assert (right == paint).all(-1).sum() > 100
    assert not (right == np.array(color(count + 1))).all(-1).any()
    assert pictures._colors(result.chosen(np.array([], int)), record) == []
