"""The losses of the validation images: the same in batches of any size, by the model's formulas."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from maskrcnn_jax.config_json import copied
from maskrcnn_jax.data import datasets
from maskrcnn_jax.data.input import pipeline
from maskrcnn_jax.evaluation.classes import class_table, in_classes_of_model
from maskrcnn_jax.evaluation.evaluate import check_metrics, evaluate
from maskrcnn_jax.evaluation.validation_loss import loss_names, make_loss_step, mean_losses
from maskrcnn_jax.inference.predict_step import make_predict_step
from maskrcnn_jax.models.build import make_model
from maskrcnn_jax.models.mask_rcnn import MaskRCNN
from maskrcnn_jax.parallel.config import MeshConfig
from maskrcnn_jax.parallel.mesh import make_mesh
from tests.end_to_end.tiny import get_config
from tests.inference.tiny_model import tiny_variables
from tests.xla_flags import batches_round_alike, run_as_users_compile

NAMES = {
    "loss_objectness",
    "loss_rpn_box_reg",
    "loss_classifier",
    "loss_box_reg",
    "loss_mask",
    "loss_total",
}


@pytest.fixture(scope="module")
def config():
    config = get_config()
    config.data.val.count = 5  # the last batch of two is padded
    return config


@pytest.fixture(scope="module")
def dataset(config):
    return datasets.load(config.data, "val")


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(**{"data": 1}))


class _WithSixth(MaskRCNN):
    def losses(self, batch, rng, batch_statistics=True):
        losses, stages = MaskRCNN.losses(self, batch, rng, batch_statistics)
        sixth = losses["loss_mask"] * 2 + batch["image_valid"].sum()
        return losses | {"loss_sixth": sixth, "loss_total": losses["loss_total"] + sixth}, stages


@pytest.fixture(scope="module")
def loss_step(config, mesh):
    """Of a model with a loss of its own, so that one program serves all tests."""
    return make_loss_step(_WithSixth(config.model, 3), mesh)


def _rows(step, dataset, config, batch_size):
    config = copied(config)
    config.eval.batch_size = batch_size
    batches = pipeline.eval_batches(dataset, config)
    return [
        jax.device_get(step(tiny_variables(), batch, info["indices"])) for batch, info in batches
    ]


def test_a_mean_by_hand():
    same = dict.fromkeys(("loss_objectness", "loss_rpn_box_reg"), np.float32([1, 3]))
    roi = dict.fromkeys(("loss_classifier", "loss_box_reg"), np.float32([1, 4]))
    rows = same | roi | {"loss_mask": np.float32([0.5, 9])}
    rows |= {"images": [1, 1], "rois": [2, 1], "positives": [1, 0], "index": [0, 1]}
    rows = {key: np.array(value) for key, value in rows.items()}
    empty = {key: np.full_like(value, 7) for key, value in rows.items()} | {
        "images": np.array([0, 0])
    }
    assert mean_losses([rows, empty]) == {
        "loss_objectness": 2.0,
        "loss_rpn_box_reg": 2.0,
        "loss_classifier": 2.0,  # (2 * 1 + 1 * 4) / 3
        "loss_box_reg": 2.0,
        "loss_mask": 0.5,
        "loss_total": 8.5,
    }
    rows["positives"] = np.array([0, 0])
    assert mean_losses([rows])["loss_mask"] == 0


def test_a_loss_of_somebody_s_own_counts_each_image_once():
    rows = {"loss_dice": [0.25, 0.75], "images": [1, 1], "rois": [9, 1], "positives": [0, 0]}
    rows = {key: np.array(value) for key, value in rows.items()} | {"index": np.array([1, 0])}
    assert mean_losses([rows]) == {"loss_dice": 0.5, "loss_total": 0.5}


def test_losses_of_further_heads_count_as_those_of_the_first():
    rows = {"loss_box_reg_3": [1, 4], "images": [1, 1], "rois": [2, 1], "positives": [0, 0]}
    rows = {key: np.array(value) for key, value in rows.items()} | {"index": np.array([0, 1])}
    assert mean_losses([rows])["loss_box_reg_3"] == 2.0


def test_the_loss_of_keypoints_counts_an_image_by_its_keypoints():
    rows = {"loss_keypoint": [1, 4], "images": [1, 1], "rois": [9, 9], "positives": [5, 5]}
    rows |= {"keypoints": [2, 1]}
    rows = {key: np.array(value) for key, value in rows.items()} | {"index": np.array([0, 1])}
    assert mean_losses([rows])["loss_keypoint"] == 2.0


def test_a_sixth_loss_of_the_model_is_measured_without_another_edit(loss_step, config, dataset):
    assert set(loss_names(_WithSixth(config.model, 3))) == NAMES | {"loss_sixth"}
    rows = _rows(loss_step, dataset, config, 2)
    means = mean_losses(rows)
    assert set(means) == NAMES | {"loss_sixth"}
    own = np.concatenate([2 * row["loss_mask"] + 1 for row in rows])[:5]
    assert means["loss_sixth"] == pytest.approx(own.mean(), rel=1e-6)
    assert means["loss_total"] == pytest.approx(
        sum(means[name] for name in means if name != "loss_total")
    )


@pytest.mark.slow  # in a process of its own
def test_batches_of_any_size_give_the_same_to_the_bit_as_users_compile():
    name = test_batches_of_any_size_give_the_same.__name__
    run_as_users_compile(f"tests/evaluation/test_validation_loss.py::{name}")


def test_batches_of_any_size_give_the_same(loss_step, dataset, config):
    in_pairs = mean_losses(_rows(loss_step, dataset, config, 2))
    alone = mean_losses(_rows(loss_step, dataset, config, 1))
    rounding = 0.0 if batches_round_alike() else 1e-6
    assert in_pairs == pytest.approx(alone, rel=rounding, abs=0.0)
    assert set(in_pairs) == NAMES | {"loss_sixth"}
    assert in_pairs["loss_total"] > in_pairs["loss_mask"] > 0
    # The order of the images decides nothing but their keys.
    assert in_pairs == mean_losses(_rows(loss_step, dataset, config, 2)[::-1])


def test_an_image_has_the_losses_of_a_batch_of_its_own(loss_step, dataset, config):
    row = _rows(loss_step, dataset, config, 2)[1]
    one = copied(config)
    one.eval.batch_size = 1
    batch, info = list(pipeline.eval_batches(dataset, one))[3]
    assert info["indices"].tolist() == [3] == row["index"][1:].tolist()
    model = make_model(config.model, 3)
    key = jax.random.fold_in(jax.random.key(0), 3)
    losses, _ = jax.jit(lambda v, b: model.apply(v, b, key, False, method="losses"))(
        tiny_variables(), batch
    )
    for name in NAMES - {"loss_total"}:
        np.testing.assert_allclose(row[name][1], losses[name], rtol=1e-5, err_msg=name)


def test_unreadable_images_do_not_count(loss_step, dataset, config):
    def read(record):
        if record.image_id == dataset.records[4].image_id:
            raise ValueError("broken")
        return dataset.read_image(record)

    broken = dataclasses.replace(dataset, read_image=read)
    few = dataclasses.replace(dataset, records=dataset.records[:4])
    with_broken = mean_losses(_rows(loss_step, broken, config, 2))
    assert with_broken == mean_losses(_rows(loss_step, few, config, 2))


def test_an_evaluation_reports_the_losses(loss_step, dataset, config, tmp_path):
    predict_step = make_predict_step(make_model(config.model, 3))
    arguments = (predict_step, tiny_variables(), dataset, config, tmp_path)
    metrics = evaluate(*arguments, loss_step=loss_step)
    expected = mean_losses(_rows(loss_step, dataset, config, 2))
    assert {name: metrics[name] for name in expected} == expected
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert f"loss_mask {expected['loss_mask']:.4f}" in (tmp_path / "report.txt").read_text()


def test_the_truth_is_put_into_the_classes_of_the_model():
    table = class_table(("cat", "dog", "bird"), ("Bird", "cat"))
    seen = []
    step = in_classes_of_model(lambda _, batch, __: seen.append(batch), table)
    step({}, {"gt_classes": np.array([[0, 1, 2]]), "image": "as it is"}, None)
    assert seen[0]["gt_classes"].tolist() == [[0, 3, 1]]
    assert seen[0]["image"] == "as it is"


def test_the_best_metric_may_be_a_loss_where_losses_are_measured(dataset, config):
    config = copied(config)
    config.train.best_metric = "loss_total"
    with pytest.raises(ValueError, match=r"'loss_total'; expected one of bbox/AP"):
        check_metrics(config, dataset)
    config.eval.loss = True
    check_metrics(config, dataset)
    config.train.best_metric = "loss_of_time"
    with pytest.raises(ValueError, match=r"expected one of bbox/AP.*loss_total"):
        check_metrics(config, dataset)
