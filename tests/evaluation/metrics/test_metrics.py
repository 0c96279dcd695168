"""Metrics besides COCO's: the values of their original implementations on random detections."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from maskrcnn_jax.data.formats import coco
from maskrcnn_jax.evaluation.config import METRICS
from maskrcnn_jax.evaluation.metrics.boundary import boundary, boundary_metrics
from maskrcnn_jax.evaluation.metrics.chosen import more_metrics, more_names
from maskrcnn_jax.evaluation.metrics.lvis import NAMES, lvis_metrics
from maskrcnn_jax.evaluation.metrics.matterport import matterport_ap, matterport_metrics
from maskrcnn_jax.evaluation.metrics.voc import voc_metrics
from maskrcnn_jax.evaluation.truth import coco_truth
from tests.evaluation.analysis import made

LIMITS = (1, 10, 100)


@pytest.fixture(scope="module")
def originals():
    return json.loads((Path(__file__).parent / "originals.json").read_text())


def _without_crowds(truth):
    return {**truth, "annotations": [a for a in truth["annotations"] if not a["iscrowd"]]}


def test_voc_equals_the_devkits_rule(originals):
    truth, results = originals["truth"], originals["results"]
    ours = voc_metrics(truth, results, "bbox")
    for rule, expected in originals["values"]["voc"].items():
        found = [ours[f"bbox/{rule}/{category['name']}"] for category in truth["categories"]]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert ours[f"bbox/{rule}"] == pytest.approx(np.mean(expected))


def test_matterport_equals_its_compute_ap(originals):
    ours = matterport_ap(originals["truth"], originals["results"])
    expected = originals["values"]["matterport"]
    assert {str(image) for image in ours} == set(expected)
    # It adds up in float32.
    np.testing.assert_allclose(
        [ours[int(image)] for image in expected], list(expected.values()), rtol=1e-6
    )


@pytest.mark.parametrize("limit", [300, 5])
def test_lvis_equals_its_package(originals, limit):
    pytest.importorskip("hotcoco")
    ours = lvis_metrics(_without_crowds(originals["truth"]), originals["results"], limit)
    for kind in ("bbox", "segm"):
        expected = originals["values"]["lvis"][f"{kind}, {limit}"]
        found = [ours[f"lvis/{kind}/{name}"] for name in NAMES]
        theirs = [name.replace("300", "") for name in NAMES]
        theirs = [f"{name}@{limit}" if name.startswith("AR") else name for name in theirs]
        assert found == [expected[name] for name in theirs]


def test_boundary_equals_its_repository(originals):
    ours = boundary_metrics(originals["truth"], originals["results"], LIMITS)
    for name, expected in originals["values"]["boundary"].items():
        assert ours[f"boundary/{name}"] == pytest.approx(expected, rel=1e-12), name


def test_a_boundary_by_hand():
    square = made.square(0, 50, side=40)  # at the image's left border, which is an outline, too
    pixels = coco_mask.decode(boundary(square["segmentation"]))
    width = round(0.02 * np.hypot(200, 200))
    expected = np.zeros((200, 200), np.uint8)
    expected[50:90, :40] = 1
    expected[50 + width : 90 - width, width : 40 - width] = 0
    np.testing.assert_array_equal(pixels, expected)
    empty = coco_mask.encode(np.zeros((9, 9), np.uint8, order="F"))
    assert coco_mask.area(boundary(empty)) == 0


def test_voc_by_hand():
    # The surest detection is right, the second takes the same object, the third the other one;
    # what lies on the difficult object does not count. Nothing is asked of dogs.
    truth = made.truth([made.square(0), made.square(50), made.square(100, iscrowd=1)])
    found = [
        made.square(0, score=0.9),
        made.square(1, score=0.8),
        made.square(100, score=0.7),
        made.square(50, score=0.6),
    ]
    numbers = voc_metrics(truth, found, "segm")
    assert numbers["segm/voc12"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert numbers["segm/voc07"] == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert numbers["segm/voc12/dog"] == -1
    assert voc_metrics(truth, [], "segm")["segm/voc07"] == 0


def test_matterport_counts_what_the_surest_detection_took_twice():
    truth = made.truth([made.square(0), made.square(50)])
    twice = [made.square(0, score=0.9), made.square(0, score=0.8)]
    assert matterport_metrics(truth, twice) == {"segm/matterport": 1.0}
    second = [made.square(50, category=2, score=0.95), *twice]
    assert matterport_ap(truth, second)[1] == pytest.approx(0.5 * 0.5)


def test_names_are_those_of_the_numbers():
    pytest.importorskip("hotcoco")
    truth, results = made.random_set(0, images=3)
    truth["images"] = [
        {**image, "neg_category_ids": [], "not_exhaustive_category_ids": []}
        for image in truth["images"]
    ]
    truth["categories"] = [{**category, "frequency": "f"} for category in truth["categories"]]
    for chosen in (METRICS, *((name,) for name in METRICS), ()):
        numbers = more_metrics(chosen, truth, results, LIMITS)
        assert set(numbers) == set(more_names(chosen, ("cat", "dog"), LIMITS)), chosen
        assert all(-1 <= value <= 1.5 for value in numbers.values())


def test_lvis_keys_come_from_the_file_to_the_truth(tmp_path, originals):
    path, truth = tmp_path / "lvis.json", _without_crowds(originals["truth"])
    images = [{**i, "coco_url": f"http://x/train2017/{i['id']}.jpg"} for i in truth["images"]]
    path.write_text(json.dumps({**truth, "images": images}))
    dataset = coco.read(tmp_path, path, max_images=5)
    again = coco_truth(dataset)
    assert again["images"] == truth["images"][:5]
    assert [c["frequency"] for c in again["categories"]] == ["r", "c", "c", "f", "f"]
    path.write_text(json.dumps({**truth, "images": images, "categories": [dict(id=1, name="a")]}))
    assert coco.read(tmp_path, path).federated is None


def test_lvis_is_refused_where_the_annotations_are_not_lvis(originals):
    pytest.importorskip("hotcoco")
    with pytest.raises(ValueError, match="neg_category_ids"):
        lvis_metrics(*made.random_set(0, images=1))
