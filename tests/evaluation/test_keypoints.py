"""AP of keypoints, by COCO's OKS: the numbers are those of the original evaluator."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskrcnn_jax.evaluation.coco_metrics import accumulate, metric_names, summaries
from maskrcnn_jax.evaluation.report import report_text
from maskrcnn_jax.models.keypoints.persons import SIGMAS

ORIGINAL = ("AP", "AP50", "AP75", "APm", "APl", "AR20", "AR50", "AR75", "ARm", "ARl")


def scene(number=12, keypoints=17, seed=0):
    """Persons of all sizes, some without keypoints or crowds; and detections near and far."""
    rng = np.random.default_rng(seed)
    truth = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    results = []
    for image in range(1, number + 1):
        truth["images"].append({"id": image, "height": 480, "width": 640})
        for _ in range(rng.integers(0, 6)):
            x, y, w, h = *rng.uniform(0, 300, 2), *rng.uniform(20, 300, 2)
            known = rng.integers(0, 3, keypoints) * (rng.random() > 0.15)
            places = np.round(rng.random((keypoints, 2)) * (w, h) + (x, y))
            places[known == 0] = 0
            points = np.concatenate([places, known[:, None]], 1)
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "bbox": [x, y, w, h],
                    "area": w * h * 0.6,
                    "iscrowd": int(rng.random() < 0.1),
                    "keypoints": points.ravel().tolist(),
                    "num_keypoints": int((known > 0).sum()),
                }
            )
            for _ in range(rng.integers(0, 4)):
                noise = rng.normal(0, rng.choice([2, 10, 60]), (keypoints, 2))
                found = np.concatenate([places + noise, rng.random((keypoints, 1))], 1)
                results.append(
                    {
                        "image_id": image,
                        "category_id": 1,
                        "bbox": [x, y, w, h],
                        "score": float(rng.random()),
                        "keypoints": found.ravel().tolist(),
                    }
                )
    return truth, results


def original(truth, results):
    """The ten numbers of pycocotools' own evaluation of a results file, which has no boxes."""
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = truth
        known.createIndex()
        found = known.loadRes([{k: v for k, v in r.items() if k != "bbox"} for r in results])
        evaluation = COCOeval(known, found, "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(ORIGINAL, evaluation.stats, strict=True))


@pytest.mark.parametrize("library", ["pycocotools", "hotcoco"])
@pytest.mark.parametrize("seed", [0, 1])
def test_numbers_are_those_of_the_original_evaluator(library, seed):
    pytest.importorskip(library)
    truth, results = scene(seed=seed)
    expected = original(truth, results)
    assert 0.05 < expected["AP"] < 0.95
    evaluated = accumulate(truth, results, (1, 10, 100), library, ("keypoints",), SIGMAS)
    found = summaries(evaluated)
    assert list(found) == metric_names(["person"], (1, 10, 100), ("keypoints",))
    for name in set(ORIGINAL) - {"AR50", "AR75"}:  # which are not among ours
        assert found[f"keypoints/{name}"] == pytest.approx(expected[name], abs=1e-9), name
    assert found["keypoints/AP/person"] == found["keypoints/AP"]


@pytest.mark.parametrize("library", ["pycocotools", "hotcoco"])
def test_sigmas_are_those_given(library):
    pytest.importorskip(library)
    truth, results = scene(keypoints=3)
    strict, lenient = (
        summaries(accumulate(truth, results, (100,), library, ("keypoints",), [sigma] * 3))
        for sigma in (0.01, 0.2)
    )
    assert 0 <= strict["keypoints/AP"] < lenient["keypoints/AP"]


def test_the_report_has_a_line_of_keypoints():
    names = metric_names(["person"], (100,), ("bbox", "keypoints"))
    metrics = dict.fromkeys(names, 0.5) | {"images": 3.0, "images_per_second": 1.0}

    class Data:
        name, class_names = "persons", ("person",)

    text = report_text(metrics, Data, (100,))
    line = "keypoints, by OKS: AP 50.0  AP50 50.0  AP75 50.0  APm 50.0  APl 50.0  AR20 50.0"
    assert line in text
    assert "person" in text
    assert "points" in text
