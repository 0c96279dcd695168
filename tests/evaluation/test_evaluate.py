"""Evaluation from batches to files: a perfect detector, an untrained one, and what goes wrong."""

import contextlib
import dataclasses
import io
import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.data import datasets
from maskrcnn_jax.data.input import pipeline
from maskrcnn_jax.evaluation.collect import collect
from maskrcnn_jax.evaluation.evaluate import batch_size, check_metrics, evaluate, pictures_in
from maskrcnn_jax.evaluation.truth import coco_truth
from maskrcnn_jax.inference.predict_step import make_predict_step
from maskrcnn_jax.inference.test_time import Views
from maskrcnn_jax.models.build import make_model
from maskrcnn_jax.models.detections import Detections
from tests.end_to_end.tiny import get_config
from tests.inference.tiny_model import tiny_predictor, tiny_variables


@pytest.fixture
def config():
    config = get_config()
    config.data.val.count = 5  # the last batch of two is padded
    config.data.val.size = 90
    return config


@pytest.fixture
def dataset(config):
    return datasets.load(config.data, "val")


def _perfect_step(dataset, config):
    """A predict step that answers with the batch's own truth, whatever the image."""
    batches = pipeline.eval_batches(dataset, config)

    def step(variables, image, image_size):
        batch, _ = next(batches)
        np.testing.assert_array_equal(batch["image"], image)
        valid = batch["gt_valid"] & ~batch["gt_crowd"]
        # In slots without an object and images without content stands what must not be seen.
        return Detections(
            boxes=np.where(valid[..., None], batch["gt_boxes"], np.nan),
            scores=np.where(valid, 1.0, np.nan),
            classes=batch["gt_classes"],
            masks=batch["gt_masks"].astype(np.float32) / 255,
            valid=valid | ~batch["image_valid"][:, None],
        )

    return step


def test_the_truth_scores_full_marks(dataset, config, tmp_path, capsys):
    metrics = evaluate(_perfect_step(dataset, config), {}, dataset, config, tmp_path)
    assert metrics["bbox/AP"] == metrics["bbox/AR100"] == 1
    assert metrics["segm/AP"] >= 0.9
    assert metrics["images"] == 5
    assert metrics["images_per_second"] > 0
    assert capsys.readouterr().out == ""  # pycocotools keeps silent
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert "100.0" in (tmp_path / "report.txt").read_text()
    found = json.loads((tmp_path / "detections.json").read_text())
    assert len(found) == sum(len(record.boxes) for record in dataset.records)
    (picture,) = (tmp_path / "pictures").iterdir()
    assert picture.name == f"eval_000000_{dataset.records[0].image_id}.png"
    assert cv2.imread(str(picture)).shape[1] > 2 * 90
    shown = {f"predictions/000000_{dataset.records[0].image_id}": picture.read_bytes()}
    assert pictures_in(tmp_path) == shown


def test_other_metrics_are_measured_where_asked_for(dataset, config, tmp_path):
    config.eval.metrics = ("voc07,voc12,matterport,boundary",)  # as the command line gives them
    config.train.best_metric = "segm/matterport"
    config.eval.validate()
    check_metrics(config, dataset)
    metrics = evaluate(_perfect_step(dataset, config), {}, dataset, config, tmp_path)
    for name in ("bbox/voc07", "segm/voc12", f"segm/voc12/{dataset.class_names[0]}"):
        assert metrics[name] == pytest.approx(1)
    assert metrics["segm/matterport"] == pytest.approx(1)
    assert 0.2 < metrics["boundary/AP"] <= metrics["segm/AP"]
    report = (tmp_path / "report.txt").read_text()
    assert "VOC 2007, AP at IoU 0.5      100.0   100.0\n" in report
    assert "matterport, AP at IoU 0.5        -   100.0\n" in report
    config.eval.metrics = ("lvis",)
    with pytest.raises(ValueError, match="lvis"):
        check_metrics(config, dataset)


def test_views_are_made_of_the_originals(dataset, config):
    seen, truth_step = [], _perfect_step(dataset, config)

    def step(variables, images, sizes):
        seen.append((images, sizes))
        return truth_step(variables, images[0], sizes[0])

    views = Views(True, (0.5, 1.5))
    found = collect(step, {}, dataset, config, views=views)
    assert len(found.image_ids) == 5
    images, sizes = seen[0]
    assert [image.shape for image in images] == [(2, side, side, 3) for side in (64, 32, 96)]
    assert sizes[2].tolist() == [[96, 96]] * 2
    original = dataset.read_image(dataset.records[0])
    np.testing.assert_array_equal(images[2][0], cv2.resize(original, (96, 96)))
    images, sizes = seen[-1]  # the second slot is empty
    assert [image[1].any() for image in images] == [False] * 3
    truth_step = _perfect_step(dataset, config)
    mirrored = Views(True, ())
    found = collect(lambda v, i, s: truth_step(v, *i, *s), {}, dataset, config, views=mirrored)
    assert len(found.image_ids) == 5


def test_agrees_with_pycocotools_by_hand(dataset, config, tmp_path):
    step = make_predict_step(make_model(config.model, 3))
    truth_step = _perfect_step(dataset, config)

    def half_right(variables, image, image_size):  # untrained, it would find nothing at all
        right = truth_step(variables, image, image_size)
        right = right._replace(boxes=1.05 * right.boxes)  # right for the lower thresholds alone
        wrong = step(variables, image, image_size)
        pairs = zip(right[:5], wrong[:5], strict=True)  # what every detector gives
        return Detections(*(np.concatenate(pair, axis=1) for pair in pairs))

    metrics = evaluate(half_right, tiny_variables(), dataset, config, tmp_path)
    (tmp_path / "truth.json").write_text(json.dumps(_json_ready(coco_truth(dataset))))
    entries = json.loads((tmp_path / "detections.json").read_text())
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    for iou_type in ("bbox", "segm"):
        if iou_type == "segm":
            entries = [{k: v for k, v in entry.items() if k != "bbox"} for entry in entries]
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(tmp_path / "truth.json"))
            evaluation = COCOeval(truth, truth.loadRes(entries), iou_type)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        found = [metrics[f"{iou_type}/{name}"] for name in names]
        np.testing.assert_array_equal(found, evaluation.stats)
    assert 0 < metrics["segm/AP"] < 1


def _json_ready(truth):
    for annotation in truth["annotations"]:
        counts = annotation["segmentation"]["counts"]
        annotation["segmentation"]["counts"] = counts.decode()
    return truth


def test_predictor_finds_what_evaluation_finds(dataset, config, tmp_path):
    step = make_predict_step(make_model(config.model, 3))
    evaluate(step, tiny_variables(), dataset, config, tmp_path)
    entries = json.loads((tmp_path / "detections.json").read_text())
    record = dataset.records[3]
    expected = [entry for entry in entries if entry["image_id"] == record.image_id]
    result = tiny_predictor()(dataset.read_image(record))
    assert len(result) == len(expected) > 0
    np.testing.assert_allclose(result.scores, [e["score"] for e in expected], atol=1e-5)
    boxes = np.array([e["bbox"] for e in expected])
    boxes[:, 2:] += boxes[:, :2]
    np.testing.assert_allclose(result.boxes, boxes, atol=1e-3)


def test_max_images_and_pictures_of_an_earlier_evaluation(dataset, config, tmp_path):
    config.eval.pictures = 5
    evaluate(_perfect_step(dataset, config), {}, dataset, config, tmp_path)
    assert len(list((tmp_path / "pictures").iterdir())) == 5
    names = ("cat.png", "12.png", "000001_mask.png", "eval_cat.png")
    own = [tmp_path / "pictures" / name for name in names]
    for path in own:
        path.write_bytes(b"the user's")
    config.eval.max_images, config.eval.pictures = 3, 2
    few = dataclasses.replace(dataset, records=dataset.records[:3])
    metrics = evaluate(_perfect_step(few, config), {}, dataset, config, tmp_path)
    assert metrics["images"] == 3
    assert metrics["bbox/AP"] == 1
    assert len(list((tmp_path / "pictures").iterdir())) == 2 + len(own)
    assert all(path.read_bytes() == b"the user's" for path in own)


def test_unreadable_images_are_named_and_left_out(dataset, config, tmp_path):
    def read(record):
        if record.image_id == dataset.records[1].image_id:
            raise ValueError("one.jpg is broken")
        return dataset.read_image(record)

    broken = dataclasses.replace(dataset, read_image=read)
    metrics = evaluate(_perfect_step(broken, config), {}, broken, config, tmp_path)
    assert metrics["images"] == 4
    assert metrics["images_skipped"] == 1
    assert metrics["bbox/AP"] == 1
    assert "one.jpg is broken" in (tmp_path / "report.txt").read_text()

    def fail(record):
        raise ValueError("all are broken")

    none = dataclasses.replace(dataset, read_image=fail)
    with pytest.raises(ValueError, match=r"none of the images .* all are broken"):
        evaluate(_perfect_step(none, config), {}, none, config, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.best_metric", "segm/ap", "train.best_metric is 'segm/ap'; expected one of bbox/AP"),
        ("train.best_metric", "bbox/AR100", "train.best_metric"),  # the limits are others
    ],
)
def test_settings_of_the_evaluation_are_checked_before_it(config, dataset, key, value, message):
    config.eval.max_detections = (1, 5)
    check_metrics(config, dataset)
    set_values(config, {key: value})
    with pytest.raises(ValueError, match=message):
        check_metrics(config, dataset)


@pytest.mark.parametrize(
    ("asked", "images", "devices", "most", "expected"),
    [
        (16, 100, 1, 0, 16),
        (16, 2, 1, 0, 2),
        (16, 2, 8, 0, 8),  # each device gets one
        (16, 100, 1, 3, 3),
        (16, 10, 4, 11, 12),
        (4, 3, 4, 0, 4),
    ],
)
def test_batches_are_no_larger_than_the_data_set(config, asked, images, devices, most, expected):
    config.eval.batch_size, config.eval.max_images = asked, most
    assert batch_size(config.eval, images, devices) == expected
