"""The page of text."""

from maskrcnn_jax.data.formats import shapes
from maskrcnn_jax.evaluation.coco_metrics import accumulate, coco_metrics, metric_names, summaries
from maskrcnn_jax.evaluation.report import report_text
from maskrcnn_jax.evaluation.truth import coco_truth


def test_report_shows_percentages_dashes_and_what_was_skipped():
    dataset = shapes.read(count=2, seed=0, size=64)
    metrics = coco_metrics(coco_truth(dataset), [], (1, 10, 300))
    metrics |= {"images": 2.0, "images_per_second": 3.21}
    metrics |= {"segm/AP": 0.123, "segm/AP/circle": 0.456, "bbox/APl": -1.0}
    text = report_text(metrics, dataset, (1, 10, 300), ["x.jpg is broken"])
    lines = text.splitlines()
    assert lines[0] == f"{dataset.name}: 2 images, 3.2 images/s, 300 detections an image"
    heads, boxes, masks = (line.split() for line in lines[2:5])
    assert heads[:9] == ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR300"]
    assert masks[1 + heads.index("AP")] == "12.3"
    assert boxes[1 + heads.index("APl")] == "-"
    (circle,) = (line.split() for line in lines if line.startswith("circle"))
    assert circle == ["circle", "0.0", "45.6"]
    assert "x.jpg is broken" in text
    text = report_text(metrics | {"images_skipped": 1.0}, dataset, (1, 10, 300))
    assert "1 image could not be read, left out; eval/report.txt" in text


def test_report_of_boxes_alone():
    dataset = shapes.read(count=2, seed=0, size=64)
    evaluated = accumulate(coco_truth(dataset), [], iou_types=("bbox",))
    metrics = summaries(evaluated)
    assert set(metrics) == set(metric_names(dataset.class_names, (1, 10, 100), ("bbox",)))
    text = report_text(metrics | {"images": 2.0, "images_per_second": 1.0}, dataset, (1, 10, 100))
    assert "boxes" in text
    assert "masks" not in text
