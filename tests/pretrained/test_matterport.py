"""matterport/Mask_RCNN's weights: names and shapes, and every stage against its NumPy reference.

The model runs with the settings of its entry in `sources.SOURCES`, but for sizes: a narrow
ResNet-50, a small image, few proposals.
"""

from functools import cached_property

import cv2
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from maskrcnn_jax.config import get_config
from maskrcnn_jax.models.rpn import propose
from maskrcnn_jax.ops.anchors import pyramid_anchors
from maskrcnn_jax.ops.roi_align import assign_levels
from maskrcnn_jax.pretrained import convert, keras_resnet, mapping, matterport, sources
from maskrcnn_jax.pretrained.coco_classes import class_list
from maskrcnn_jax.training.state import abstract_variables, make_model
from tests.pretrained import keras_weights
from tests.pretrained import matterport_numpy as reference
from tests.pretrained.parity import matching_order

SOURCE = next(source for source in sources.SOURCES if source.name == "matterport")
WIDTHS = {
    "backbone.width": 4,
    "fpn.channels": 16,
    "rpn.channels": 12,
    "box_head.dense_channels": 20,
    "mask_head.channels": 8,
}
NUM_CLASSES = 3
# Not square, so that no axis can stand for the other; the image ends before the input does.
HEIGHT, WIDTH = 128, 192
IMAGE_SIZE = (112, 170)
SETTINGS = reference.Settings(
    anchor_scales=(8, 16, 32, 64, 128),
    pre_nms_limit=90,  # so few that not all slots of proposals are filled
    post_nms_rois=60,
    rpn_nms_threshold=0.3,
    canonical_size=30,
    max_instances=50,
)


def config_model(depth=50, **overrides) -> ConfigDict:
    config = get_config().model
    keys = {**SOURCE.model, **SOURCE.settings, "backbone.depth": depth, **overrides}
    config.update_from_flattened_dict(keys)
    return config


def narrow_weights(depth=50):
    shapes = keras_weights.matterport(
        depth, NUM_CLASSES + 1, width=4, pyramid=16, rpn=12, fc=20, mask=8
    )
    weights = keras_weights.random_weights(shapes, seed=9)
    # So that some RoIs are of each class, and some of none.
    weights["mrcnn_class_logits/bias"] += np.float32([0.8, 0.2, -0.5, 0.2])
    return weights


def imported(weights, config):
    expected = abstract_variables(make_model(config, NUM_CLASSES))
    entries = SOURCE.table(config)
    return mapping.import_arrays(
        weights, entries, expected, what="the weights", ignored=SOURCE.ignored
    )


# Names and shapes.


@pytest.mark.parametrize("depth", [50, 101])
def test_table_is_complete(depth):
    config = config_model(depth)
    published = keras_weights.matterport(depth, num_classes=81)
    if depth == 101:  # what Keras prints for mask_rcnn_coco.h5
        assert sum(np.prod(shape) for shape in published.values()) == 64_158_584
    ours = mapping.flat(abstract_variables(make_model(config, 80)))
    theirs = {}
    for entry in SOURCE.table(config):
        arrays = entry.layout.to_source(np.broadcast_to(np.float32(0), ours.pop(entry.path).shape))
        arrays = arrays if isinstance(arrays, tuple) else (arrays,)
        theirs |= {name: array.shape for name, array in zip(entry.names, arrays, strict=True)}
    assert not ours  # every array of ours has an entry
    assert theirs == published


@pytest.mark.parametrize("depth", [50, 101])
def test_import_export_import(depth):
    config = config_model(depth, **WIDTHS)
    weights = narrow_weights(depth)
    variables = imported(weights, config).variables
    exported = mapping.export_arrays(variables, SOURCE.table(config))
    assert {name: array.shape for name, array in exported.items()} == {
        name: array.shape for name, array in weights.items()
    }
    jax.tree.map(np.testing.assert_array_equal, imported(exported, config).variables, variables)


def test_recognised_by_its_names():
    weights = narrow_weights(101)
    source = sources.recognised(weights, "a file")
    assert source is SOURCE
    assert source.depth(weights) == 101
    assert source.num_classes(weights) == NUM_CLASSES
    assert class_list(80)[0][:2] == ("person", "bicycle")  # its order of COCO's classes


def test_dialect_belongs_to_the_weights_and_settings_do_not():
    belonging = sources.dialect(SOURCE, depth=101)
    assert belonging.items() >= SOURCE.model.items()
    assert belonging["backbone.depth"] == 101
    assert not belonging.keys() & SOURCE.settings.keys()
    get_config().data.update_from_flattened_dict(SOURCE.data)  # raises for an unknown key


def test_anchors_saved_as_a_variable_are_left_behind():
    weights = narrow_weights() | {"anchors/Variable": np.zeros((1, 9, 4), np.float32)}
    assert imported(weights, config_model(**WIDTHS)).left == ["anchors/Variable"]


def test_faults_are_listed():
    weights = narrow_weights()
    del weights["bn4c_branch2b/moving_mean"], weights["res3a_branch1/bias"]
    weights["mrcnn_class_conv1/kernel"] = np.zeros((5, 5, 16, 20), np.float32)
    with pytest.raises(ValueError, match="do not fit") as error:
        imported(weights, config_model(**WIDTHS))
    message = str(error.value)
    assert "missing (2): res3a_branch1/bias, bn4c_branch2b/moving_mean" in message
    assert "mrcnn_class_conv1/kernel: (5, 5, 16, 20) given, (7, 7, 16, 20) expected" in message


def test_file(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: no .h5 files can be read")
    weights = narrow_weights(101)
    with h5py.File(tmp_path / "mask_rcnn_mine.h5", "w") as file:  # as `save_weights` lays it out
        for name, array in weights.items():
            layer, weight = name.split("/")
            inside = f"rpn_model/{layer}" if layer.startswith("rpn_") else f"{layer}/{layer}"
            file[f"{inside}/{weight}:0"] = array
    loaded = convert.load(tmp_path / "mask_rcnn_mine.h5")
    assert loaded.kind == "matterport"
    assert loaded.class_names == ("class_1", "class_2", "class_3")
    assert loaded.model.items() >= {**WIDTHS, "backbone.depth": 101}.items()
    expected = imported(weights, config_model(101, **WIDTHS)).variables
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, expected)


# Layouts by hand.


def test_bias_before_a_norm_moves_its_mean():
    rng = np.random.default_rng(0)
    x, bias, mean, variance = rng.uniform(0.5, 2, (4, 5))
    theirs = (x + bias - mean) / np.sqrt(variance + 1e-3)
    folded = keras_resnet.MEAN.to_ours(mean, bias)
    np.testing.assert_allclose((x - folded) / np.sqrt(variance + 1e-3), theirs, rtol=1e-12)


def test_two_logits_become_their_difference():
    pairs = np.array([1.0, 4.0, 2.0, -3.0])  # (background, foreground) of two anchors
    ours = matterport.OBJECTNESS.to_ours(pairs)
    assert ours.tolist() == [3, -5]
    softmax = np.exp(pairs[1::2]) / (np.exp(pairs[::2]) + np.exp(pairs[1::2]))
    np.testing.assert_allclose(1 / (1 + np.exp(-ours)), softmax, rtol=1e-12)
    assert matterport.OBJECTNESS.to_source(ours).tolist() == [0, 3, 0, -5]


def test_layouts():
    deltas = np.arange(2 * 8).reshape(2, 8)  # two classes of (dy, dx, dh, dw)
    assert matterport.DELTAS.to_ours(deltas)[1].tolist() == [9, 8, 11, 10, 13, 12, 15, 14]
    window = np.arange(7 * 7 * 3 * 2).reshape(7, 7, 3, 2)  # row, column, in, out
    ours = matterport.whole_window(7).to_ours(window)
    assert ours[(4 * 7 + 5) * 3 + 2, 1] == window[4, 5, 2, 1]
    upsample = np.arange(2 * 2 * 3 * 5).reshape(2, 2, 3, 5)  # row, column, out, in
    assert matterport.UPSAMPLE.to_ours(upsample)[4, 0, 1, 2] == upsample[0, 1, 2, 4]


# The detector.


class Case:
    """One image, what the reference computes for it, and what our detector does."""

    def __init__(self):
        rng = np.random.default_rng(1)
        noise = rng.integers(0, 256, (14, 20, 3), dtype=np.uint8)
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        size = IMAGE_SIZE[::-1]
        image[: size[1], : size[0]] = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
        weights = narrow_weights()
        self.expected = reference.detect(image, (0, 0, *IMAGE_SIZE), weights, SETTINGS)

        self.config = FrozenConfigDict(case_config())
        model = make_model(self.config, NUM_CLASSES)
        self.variables = imported(weights, self.config).variables
        image[IMAGE_SIZE[0] :] = 77  # must not be seen
        predict = jax.jit(lambda *args: model.apply(*args, method="predict"))
        arguments = self.variables, image[None], np.float32([IMAGE_SIZE])
        (self.detections, stages) = jax.device_get(predict(*arguments))
        self.stages = {name: array[0] for name, array in stages.items()}

    @cached_property
    def proposal_order(self):
        """Which of our proposals is the reference's i-th."""
        ours = self.stages["proposals"][self.stages["proposal_valid"]]
        return matching_order(inclusive(self.expected["rois"]), ours, tolerance=5e-3)

    @cached_property
    def detection_order(self):
        ours = self.detections.boxes[0][self.detections.valid[0]]
        expected = reference.denormalised(self.expected["boxes"], (HEIGHT, WIDTH))
        return matching_order(expected[:, [1, 0, 3, 2]], ours, tolerance=5e-3)


def case_config():
    side = np.sqrt((HEIGHT - 1) * (WIDTH - 1) / (HEIGHT * WIDTH))  # of a normalised square
    return config_model(
        **WIDTHS,
        **{
            "anchors.sizes": SETTINGS.anchor_scales,
            "rpn.pre_nms_top_n_eval": SETTINGS.pre_nms_limit,
            "rpn.post_nms_top_n_eval": SETTINGS.post_nms_rois,
            "rpn.nms_threshold": SETTINGS.rpn_nms_threshold,
            "roi.canonical_size": float(SETTINGS.canonical_size * side),
            "detections.max_per_image": SETTINGS.max_instances,
        },
    )


@pytest.fixture(scope="module")
def case():
    with jax.default_matmul_precision("float32"):
        return Case()


def inclusive(boxes):
    """Normalised boxes (y, x) of the reference as ours: pixels (x, y), inclusive corners."""
    return boxes[:, [1, 0, 3, 2]] * [WIDTH - 1, HEIGHT - 1, WIDTH - 1, HEIGHT - 1]


def test_input(case):
    np.testing.assert_allclose(case.stages["image"], case.expected["image"], atol=1e-4)


@pytest.mark.parametrize("level", range(4))
def test_backbone(case, level):
    ours = case.stages[f"c{level + 2}"]
    np.testing.assert_allclose(ours, case.expected["features"][level], atol=1e-4)


@pytest.mark.parametrize("level", range(5))
def test_pyramid(case, level):
    ours = case.stages[f"p{level + 2}"]
    np.testing.assert_allclose(ours, case.expected["pyramid"][level], atol=1e-4)


def test_anchors(case):
    shapes = [case.stages[f"p{i}"].shape[:2] for i in range(2, 7)]
    levels = pyramid_anchors(shapes, (HEIGHT, WIDTH), **case.config.anchors)
    ours = np.concatenate(levels) - [0, 0, 1, 1]
    np.testing.assert_allclose(ours, inclusive(case.expected["anchors"]), atol=1e-4)


def test_rpn(case):
    probabilities = 1 / (1 + np.exp(-case.stages["rpn_logits"]))
    np.testing.assert_allclose(probabilities, case.expected["rpn_probabilities"][:, 1], atol=1e-5)
    ours = case.stages["rpn_deltas"][:, [1, 0, 3, 2]]
    np.testing.assert_allclose(ours, case.expected["rpn_deltas"], atol=2e-4)


def test_proposals(case):
    assert 0 < len(case.expected["rois"]) < SETTINGS.post_nms_rois
    scores = case.stages["proposal_scores"]
    np.testing.assert_allclose(scores[case.proposal_order], case.expected["roi_scores"], atol=1e-5)
    assert (np.diff(scores) <= 0).all()
    assert (case.stages["proposals"] > [169, 111, 169, 111]).any()  # clipped to the input alone


def test_box_head(case):
    levels = [reference.level_of(box, (HEIGHT, WIDTH), 30) for box in case.expected["rois"]]
    assert set(levels) == {2, 3, 4, 5}
    for name in ("box_features", "class_logits"):
        ours = case.stages[name][case.proposal_order]
        np.testing.assert_allclose(ours, case.expected[name], atol=1e-3, err_msg=name)
    ours = case.stages["box_deltas"][case.proposal_order][..., [1, 0, 3, 2]]
    np.testing.assert_allclose(ours, case.expected["box_deltas"], atol=1e-3)


def test_detections(case):
    assert set(case.expected["class_logits"].argmax(1)) == {0, 1, 2, 3}
    assert set(case.expected["classes"]) == {1, 2, 3}
    detections, order = case.detections, case.detection_order
    np.testing.assert_array_equal(detections.classes[0][order], case.expected["classes"])
    np.testing.assert_allclose(detections.scores[0][order], case.expected["scores"], atol=1e-4)
    assert (np.diff(detections.scores[0]) <= 0).all()


def test_masks(case):
    ours = case.stages["mask_features"][case.detection_order]
    np.testing.assert_allclose(ours, case.expected["mask_features"], atol=2e-3)
    ours = case.detections.masks[0][case.detection_order]
    np.testing.assert_allclose(ours, case.expected["masks"], atol=1e-3)


# What one small image cannot show.


def test_levels_of_a_square_of_1024():
    rng = np.random.default_rng(0)
    sides = rng.uniform(4, 1023, (2000, 2)).astype(np.float32)
    boxes = np.concatenate([np.zeros_like(sides), sides], axis=1)
    settings = config_model().roi
    ours = assign_levels(boxes, 4, settings.canonical_level, settings.canonical_size)
    normalised = boxes[:, [1, 0, 3, 2]] / 1023.0
    expected = [reference.level_of(box, (1024, 1024)) - 2 for box in normalised]
    assert set(expected) == {0, 1, 2, 3}
    np.testing.assert_array_equal(ours, expected)


def test_deltas_move_a_box_as_in_normalised_coordinates():
    anchors = np.float32([[100, 200, 300, 250], [0, 5, 90, 500]])  # x, y of the last pixels
    deltas = np.float32([[0.4, -1.2, 0.7, -2.0], [-0.3, 0.9, -1.1, 0.2]])  # dy, dx, dh, dw
    logits = np.float32([2, 1])
    rpn = config_model().rpn
    ours = propose(
        [logits],
        [deltas[:, [1, 0, 3, 2]]],
        [anchors],
        np.float32([1023, 1023]),
        pre_nms_top_n=2,
        post_nms_top_n=2,
        nms_threshold=1.0,
        min_size=rpn.min_size,
        coder_weights=rpn.coder_weights,
    )
    expected = reference.refined(anchors[:, [1, 0, 3, 2]] / 1023, deltas) * 1023
    expected = expected.clip(0, 1023)[:, [1, 0, 3, 2]]
    np.testing.assert_allclose(ours.boxes, expected, atol=1e-3)


# The reference itself, where TensorFlow has the operation.


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow", reason="TensorFlow is not installed")


def test_reference_pools_as_tensorflow(tf):
    x = np.random.default_rng(0).standard_normal((8, 12, 3))
    expected = tf.nn.max_pool2d(x[None], 3, 2, "SAME")[0]
    np.testing.assert_array_equal(reference.max_pool_same(x), expected)


def test_reference_convolves_as_tensorflow(tf):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((9, 12, 3))
    weights = {"a/kernel": rng.standard_normal((3, 3, 3, 4)), "a/bias": rng.standard_normal(4)}
    expected = tf.nn.conv2d(x[None], weights["a/kernel"], 1, "SAME")[0] + weights["a/bias"]
    np.testing.assert_allclose(reference.conv(x, weights, "a", padding=1), expected, atol=1e-12)
    weights = {"a/kernel": rng.standard_normal((2, 2, 4, 3)), "a/bias": rng.standard_normal(4)}
    shape = (1, 18, 24, 4)
    expected = tf.nn.conv2d_transpose(x[None], weights["a/kernel"], shape, 2, "VALID")[0]
    ours = reference.transposed_conv(x, weights, "a")
    np.testing.assert_allclose(ours, expected + weights["a/bias"], atol=1e-12)


def test_reference_crops_as_tensorflow(tf):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 12, 3)).astype(np.float32)
    boxes = np.float32([[0.1, 0.2, 0.7, 0.9], [-0.2, 0.5, 0.6, 1.3], [0.4, 0.4, 0.4, 0.8]])
    expected = tf.image.crop_and_resize(x[None], boxes, [0, 0, 0], (7, 7))
    ours = [reference.crop_and_resize(x, box, 7) for box in boxes]
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_reference_suppresses_as_tensorflow(tf):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 0.8, (100, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 0.4, (100, 2))], 1).astype(np.float32)
    scores = rng.uniform(size=100).astype(np.float32)
    expected = tf.image.non_max_suppression(boxes, scores, 30, 0.3)
    ours = reference.non_max_suppression(boxes, scores, 0.3, 30)
    np.testing.assert_array_equal(ours, expected)
