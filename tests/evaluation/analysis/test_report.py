"""The files of `eval.py --report`."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from maskrcnn_jax.data.formats import shapes
from maskrcnn_jax.evaluation.analysis.write import write_analysis
from maskrcnn_jax.evaluation.coco_metrics import accumulate
from maskrcnn_jax.evaluation.truth import coco_truth


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    dataset = shapes.read(count=4, seed=0, size=64)
    dataset = replace(dataset, class_names=("<b>bold</b>", *dataset.class_names[1:]))
    truth = coco_truth(dataset)
    results = [{**a, "score": 0.9 - i / 100} for i, a in enumerate(truth["annotations"])]
    results[0] = {**results[0], "category_id": results[0]["category_id"] % 3 + 1}
    evaluated = accumulate(truth, results)
    write_analysis(folder, dataset, truth, results, evaluated)
    return folder, truth, evaluated


def test_the_page_is_whole_and_alone(written):
    folder, _, _ = written
    html = (folder / "report.html").read_text()
    assert "<b>" not in html  # names are text
    assert "&lt;b&gt;bold&lt;/b&gt;" in html
    assert not re.search(r"""(src|href)=["'](?!data:)|<script|@import|url\(""", html)
    assert html.count("<polyline") >= 4
    assert html.count("data:image/jpeg;base64,") == 1  # one image has errors


def test_the_numbers_are_those_of_the_evaluation(written):
    folder, truth, evaluated = written
    report = json.loads((folder / "report.json").read_text())
    assert report["images"] == 4
    for kind in ("bbox", "segm"):
        numbers = report[kind]
        precision = evaluated[kind].eval["precision"]
        for k, row in enumerate(numbers["classes"]):
            own = precision[:, :, k, 0, -1]
            assert row["AP"] == pytest.approx(own[own > -1].mean(), abs=1e-4)
        assert np.sum(numbers["confusion"]["counts"]) == len(truth["annotations"])
        assert numbers["errors"]["classification"]["count"] == 1
        assert [row["false_detections"] for row in numbers["worst"]] == [1]
