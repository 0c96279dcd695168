"""A data set as COCO's ground truth."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from maskrcnn_jax.data.formats import coco, shapes
from maskrcnn_jax.data.masks.segmentation import Polygons, to_rle
from maskrcnn_jax.evaluation.coco_metrics import coco_metrics
from maskrcnn_jax.evaluation.truth import coco_truth

RECTANGLE = [10, 5, 30, 5, 30, 25, 10, 25]


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


@pytest.mark.parametrize(
    "faulty", [dict(segmentation=[]), dict(iscrowd=2), dict(segmentation=None, bbox=[40, 20, 9, 9])]
)
def test_finding_an_object_without_a_mask_is_not_wrong(tmp_path, faulty):
    """A detector that finds both objects is perfect, however sure it is of the faulty one."""
    squares = [[10, 5, 20, 20], [40, 20, 9, 9]]
    outlines = [[[x, y, x + w, y, x + w, y + h, x, y + h]] for x, y, w, h in squares]
    annotations = [
        dict(id=i, image_id=7, category_id=1, bbox=box, segmentation=outline)
        for i, (box, outline) in enumerate(zip(squares, outlines, strict=True), 1)
    ]
    annotations[1] |= faulty
    content = dict(
        images=[dict(id=7, file_name="a.png", height=40, width=60)],
        annotations=annotations,
        categories=[dict(id=1, name="cat")],
    )
    (tmp_path / "a.json").write_text(json.dumps(content))
    dataset = coco.read(tmp_path, tmp_path / "a.json")
    results = [
        dict(
            image_id=7,
            category_id=1,
            bbox=box,
            score=score,
            segmentation=to_rle(Polygons([np.reshape(outline, (-1, 2))]), 40, 60),
        )
        for box, outline, score in zip(squares, outlines, (0.5, 0.9), strict=True)
    ]
    metrics = coco_metrics(coco_truth(dataset), results, (1, 10, 100))
    assert [metrics["bbox/AP"], metrics["segm/AP"]] == pytest.approx([1, 1])


def test_a_region_of_no_class_is_ignored_for_every_class(tmp_path):
    """Detections of any class on an object whose category is unknown are not wrong."""
    boxes = [[10, 5, 20, 20], [40, 20, 9, 9]]
    content = dict(
        images=[dict(id=7, file_name="a.png", height=40, width=60)],
        annotations=[
            dict(id=1, image_id=7, category_id=1, bbox=boxes[0], segmentation=[RECTANGLE]),
            dict(id=2, image_id=7, category_id=77, bbox=boxes[1]),
        ],
        categories=[dict(id=1, name="cat"), dict(id=2, name="dog")],
    )
    (tmp_path / "a.json").write_text(json.dumps(content))
    dataset = coco.read(tmp_path, tmp_path / "a.json")
    assert dataset.records[0].classes.tolist() == [1, 0]
    truth = coco_truth(dataset)
    entries = [(a["id"], a["category_id"], a["iscrowd"]) for a in truth["annotations"]]
    assert entries == [(1, 1, 0), (2, 1, 1), (3, 2, 1)]
    cat, crowd, _ = truth["annotations"]
    found = [{**cat, "score": 0.5}]
    found += [{**crowd, "category_id": k, "score": 0.9} for k in (1, 2)]  # surer than the cat
    metrics = coco_metrics(truth, found)
    assert [metrics["bbox/AP"], metrics["segm/AP"]] == pytest.approx([1, 1])
