"""Detections in COCO's results format."""

import json

import numpy as np
from pycocotools import mask as coco_mask

from maskrcnn_jax.images.paste import MaskCrop, full_mask
from maskrcnn_jax.images.run_lengths import crop_to_rle
from maskrcnn_jax.inference.coco_results import coco_results
from maskrcnn_jax.inference.result import Result


def test_run_lengths_of_a_crop_are_those_of_the_whole_mask():
    rng = np.random.default_rng(0)
    for _ in range(500):
        height, width = rng.integers(1, 12, 2)
        h, w = rng.integers(0, height + 1), rng.integers(0, width + 1)
        y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
        crop = MaskCrop(rng.random((h, w)) < rng.random(), int(y), int(x))
        whole = np.asfortranarray(full_mask(crop, height, width), np.uint8)
        encoded = coco_mask.encode(whole)
        expected = {"size": [height, width], "counts": encoded["counts"].decode()}
        assert crop_to_rle(crop, int(height), int(width)) == expected


def test_long_runs_of_large_images_are_written_too():
    for y, x, side in ((0, 0, 1), (7000, 9000, 1000), (3, 9999, 1), (15, 16, 17)):
        crop = MaskCrop(np.ones((side, side), bool), y, x)
        rle = crop_to_rle(crop, 8000, 10000)
        assert coco_mask.area(rle) == side**2
        assert coco_mask.toBbox(rle).tolist() == [x, y, side, side]


def test_entries_by_hand():
    result = Result(
        boxes=np.array([[1, 2, 4, 8]], np.float32),
        scores=np.array([0.75], np.float32),
        classes=np.array([2], np.int32),
        class_names=("cat",),
        crops=(MaskCrop(np.ones((2, 1), bool), 3, 1),),
        height=5,
        width=4,
    )
    (entry,) = json.loads(json.dumps(coco_results(result, "a.jpg", (7, 17))))
    rle = entry.pop("segmentation")
    assert entry == {"image_id": "a.jpg", "category_id": 17, "bbox": [1, 2, 3, 6], "score": 0.75}
    assert rle["size"] == [5, 4]
    expected = np.zeros((5, 4))
    expected[3:, 1] = 1
    np.testing.assert_array_equal(coco_mask.decode(rle), expected)
