"""A data set as COCO's ground truth."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from maskrcnn_jax.data.formats import coco, shapes
from maskrcnn_jax.evaluation.truth import coco_truth


def test_coco_comes_back_as_annotated(coco_dir):
    path = coco_dir / "annotations" / "instances_val2017.json"
    original = COCO(str(path))
    truth = coco_truth(coco.read(coco_dir / "val2017", path))

    assert {image["id"] for image in truth["images"]} == set(original.imgs)
    assert truth["categories"] == [
        {"id": c["id"], "name": c["name"]} for c in original.loadCats(original.getCatIds())
    ]
    ids = [annotation["id"] for annotation in truth["annotations"]]
    assert ids == list(range(1, len(original.anns) + 1))

    def key(annotation):
        return annotation["image_id"], annotation["category_id"], annotation["area"]

    found = sorted(truth["annotations"], key=key)
    expected = sorted(original.anns.values(), key=key)
    for ours, theirs in zip(found, expected, strict=True):
        assert key(ours)[:2] == key(theirs)[:2]
        assert ours["area"] == pytest.approx(theirs["area"])
        assert ours["iscrowd"] == theirs["iscrowd"]
    assert sum(annotation["iscrowd"] for annotation in found) > 0
    for ours, theirs in zip(found[::50], expected[::50], strict=True):
        np.testing.assert_allclose(ours["bbox"], theirs["bbox"], atol=1e-3)
        mask = coco_mask.decode(ours["segmentation"])
        np.testing.assert_array_equal(mask, original.annToMask(theirs))


def test_only_the_images_asked_for():
    dataset = shapes.read(count=3, seed=0, size=64)
    truth = coco_truth(dataset, [dataset.records[1].image_id])
    assert [image["id"] for image in truth["images"]] == [dataset.records[1].image_id]
    assert len(truth["annotations"]) == len(dataset.records[1].boxes)
    assert truth["annotations"][0]["id"] == 1
