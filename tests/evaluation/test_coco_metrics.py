"""COCO's numbers: against pycocotools' own summary, and by hand."""

import contextlib
import copy
import io

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskrcnn_jax.evaluation.coco_metrics import coco_metrics, metric_names
from maskrcnn_jax.evaluation.metrics.chosen import more_metrics

NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def _summarize(truth: COCO, results: list[dict], iou_type: str) -> np.ndarray:
    """pycocotools as its demo uses it."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def _noisy_results(truth: COCO) -> list[dict]:
    """The truth moved, renamed, repeated and partly left out, with scores that tell little."""
    rng = np.random.default_rng(0)
    categories = truth.getCatIds()
    results = []
    for annotation in truth.anns.values():
        for _ in range(rng.integers(0, 3)):
            mask = np.roll(truth.annToMask(annotation), rng.integers(-6, 7, 2), (0, 1))
            rle = coco_mask.encode(np.asfortranarray(mask))
            wrong = rng.random() < 0.2
            category = rng.choice(categories) if wrong else annotation["category_id"]
            results.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": int(category),
                    "bbox": (np.array(annotation["bbox"]) + rng.normal(0, 4, 4)).tolist(),
                    "score": float(rng.random()),
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                }
            )
    return results


def test_equals_pycocotools_summary(coco_dir):
    annotations = coco_dir / "annotations" / "instances_val2017.json"
    truth = COCO(str(annotations))
    results = _noisy_results(truth)
    metrics = coco_metrics(truth.dataset, results)
    classes = [category["name"] for category in truth.dataset["categories"]]
    assert set(metric_names(classes, (1, 10, 100))) == set(metrics)
    expected = _summarize(truth, results, "bbox")
    np.testing.assert_array_equal([metrics[f"bbox/{name}"] for name in NAMES], expected)
    # With boxes in the results, pycocotools would sort masks into sizes by their boxes.
    masks = [{k: v for k, v in entry.items() if k != "bbox"} for entry in results]
    expected = _summarize(truth, masks, "segm")
    np.testing.assert_array_equal([metrics[f"segm/{name}"] for name in NAMES], expected)
    assert 0.1 < metrics["segm/AP"] < 0.9

    classes = [metrics[f"bbox/AP/{c['name']}"] for c in truth.dataset["categories"]]
    present = [ap for ap in classes if ap >= 0]
    assert len(classes) == 80
    np.testing.assert_allclose(np.mean(present), metrics["bbox/AP"])


def _square(image_id, x, side=10, category=1, score=None, number=1, shape=(20, 400)):
    """An annotation, or with a score a detection, of a square at column x."""
    mask = np.zeros(shape, np.uint8, order="F")
    mask[:side, x : x + side] = 1
    entry = {
        "image_id": image_id,
        "category_id": category,
        "bbox": [float(x), 0.0, float(side), float(side)],
        "segmentation": coco_mask.encode(mask),
    }
    if score is None:
        return {**entry, "id": number, "area": side * side, "iscrowd": 0}
    return {**entry, "score": score}


def _truth(annotations, image_ids=(1,), categories=((1, "cat"), (2, "dog"))):
    return {
        "images": [{"id": i, "height": 20, "width": 400} for i in image_ids],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in categories],
    }


def test_by_hand():
    # One of two cats is found, behind a false alarm of higher score: precision 1/2 up to recall
    # 1/2 (51 of COCO's 101 points), then 0. Nothing is large, and no dog is there.
    truth = _truth([_square(1, 0), _square(1, 50, number=2)])
    metrics = coco_metrics(truth, [_square(1, 100, score=0.9), _square(1, 0, score=0.8)])
    for iou_type in ("bbox", "segm"):
        assert metrics[f"{iou_type}/AP"] == pytest.approx(0.5 * 51 / 101)
        assert metrics[f"{iou_type}/APs"] == metrics[f"{iou_type}/AP"]
        assert metrics[f"{iou_type}/AR1"] == 0
        assert metrics[f"{iou_type}/AR10"] == 0.5
        assert metrics[f"{iou_type}/AP/cat"] == metrics[f"{iou_type}/AP"]
        for name in ("APm", "APl", "ARm", "ARl", "AP/dog"):
            assert metrics[f"{iou_type}/{name}"] == -1


def test_masks_are_ranked_by_their_own_score_where_they_have_one():
    truth = _truth([_square(1, 0), _square(1, 50, number=2)])
    found = [_square(1, 100, score=0.9), _square(1, 0, score=0.8), _square(1, 50, score=0.7)]
    for entry, score in zip(found, (0.1, 0.6, 0.5), strict=True):
        entry["mask_score"] = score
    metrics = coco_metrics(truth, found)
    assert metrics["segm/AP"] == 1
    assert metrics["bbox/AP"] == pytest.approx(2 / 3)
    more = more_metrics(("voc12", "matterport"), truth, found, (1, 10, 100))
    assert (more["segm/voc12"], more["segm/matterport"]) == (1, 1)
    assert more["bbox/voc12"] == pytest.approx(2 / 3)
    assert found[0]["score"] == 0.9


def test_no_detections_and_no_objects():
    metrics = coco_metrics(_truth([_square(1, 0)]), [])
    assert metrics["bbox/AP"] == metrics["segm/AR100"] == 0
    metrics = coco_metrics(_truth([]), [_square(1, 0, score=0.5)])
    assert metrics["bbox/AP"] == metrics["segm/AR100"] == -1


def test_more_than_a_hundred_objects():
    objects = [_square(1, 2 * i, side=2, number=i + 1) for i in range(150)]
    found = [_square(1, 2 * i, side=2, score=1 - i / 1000) for i in range(150)]
    many = coco_metrics(_truth(objects), found, (1, 100, 150))
    assert many["bbox/AP"] == many["segm/AP50"] == many["segm/AR150"] == 1
    assert many["segm/AR100"] == pytest.approx(100 / 150)
    few = coco_metrics(_truth(objects), found)
    assert few["segm/AP"] == pytest.approx(67 / 101)  # of the 101 recalls, those up to 2/3


def test_image_ids_of_any_kind():
    truth = _truth([_square("b.png", 0), _square(7, 0, number=2)], image_ids=("b.png", 7))
    found = [_square("b.png", 0, score=0.5), _square(7, 0, score=0.4)]
    assert coco_metrics(truth, found)["segm/AP"] == 1


def test_errors_say_what_was_given():
    truth = _truth([_square(1, 0)])
    for limits in ((100, 10, 1), (), (0, 10), (10, 10)):
        with pytest.raises(ValueError, match="max_detections"):
            coco_metrics(truth, [], limits)
    with pytest.raises(ValueError, match=r"image_id .* 5"):
        coco_metrics(truth, [_square(5, 0, score=1)])
    with pytest.raises(ValueError, match=r"category_id .* 9"):
        coco_metrics(truth, [_square(1, 0, category=9, score=1)])
