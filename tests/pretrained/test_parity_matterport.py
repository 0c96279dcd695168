"""matterport's dialect, stage by stage, against its NumPy reference with the same weights.

The model runs with the settings of its entry in `sources.SOURCES`, but for sizes: a narrow
ResNet-50, a small image, few proposals.
"""

from dataclasses import asdict
from functools import cached_property

import cv2
import jax
import numpy as np
import pytest

from maskrcnn_jax.models.build import make_model
from maskrcnn_jax.ops import boxes as box_ops
from maskrcnn_jax.ops.anchors import pyramid_anchors
from maskrcnn_jax.ops.roi_align import assign_levels
from tests.parity.reference import EPS, FACTOR
from tests.pretrained import matterport_numpy as reference
from tests.pretrained.narrow_matterport import (
    NUM_CLASSES,
    WIDTHS,
    config_model,
    imported,
    narrow_weights,
)
from tests.pretrained.parity import matching_order

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


class Case:
    """One image, what the reference computes for it, and what our detector does."""

    def __init__(self):
        rng = np.random.default_rng(1)
        noise = rng.integers(0, 256, (14, 20, 3), dtype=np.uint8)
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        size = IMAGE_SIZE[::-1]
        image[: size[1], : size[0]] = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
        weights = narrow_weights()
        window = (0, 0, *IMAGE_SIZE)
        self.expected = reference.detect(image, window, weights, SETTINGS)
        self.rounded = reference.detect(image, window, weights, SETTINGS, dtype=np.float32)

        self.config = case_config()
        model = make_model(self.config, NUM_CLASSES)
        self.variables = imported(weights, self.config).variables
        image[IMAGE_SIZE[0] :] = image[:, IMAGE_SIZE[1] :] = 77  # must not be seen
        predict = jax.jit(lambda *args: model.apply(*args, method="predict"))
        arguments = self.variables, image[None], np.float32([IMAGE_SIZE])
        (self.detections, stages) = jax.device_get(predict(*arguments))
        self.stages = {name: array[0] for name, array in stages.items()}

    def tolerance(self, name, level=None):
        """Returns what rounding explains: see tests/parity/reference.py."""
        exact, rounded = self.expected[name], self.rounded[name]
        if level is not None:
            exact, rounded = exact[level], rounded[level]
        error = np.abs(exact - rounded).max()
        return FACTOR * error + 4 * EPS * np.abs(exact).max()

    def assert_close(self, ours, name):
        expected = self.expected[name]
        np.testing.assert_allclose(ours, expected, rtol=0, atol=self.tolerance(name), err_msg=name)

    @cached_property
    def proposal_order(self):
        """Which of our proposals is the reference's i-th."""
        ours = self.stages["proposals"][self.stages["proposal_valid"]]
        tolerance = self.tolerance("rois") * WIDTH
        return matching_order(inclusive(self.expected["rois"]), ours, tolerance)

    @cached_property
    def detection_order(self):
        ours = self.detections.boxes[0][self.detections.valid[0]]
        expected = reference.denormalised(self.expected["boxes"], (HEIGHT, WIDTH))
        return matching_order(expected[:, [1, 0, 3, 2]], ours, self.tolerance("boxes") * WIDTH)


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
    case.assert_close(case.stages["image"], "image")


@pytest.mark.parametrize("level", range(4))
def test_backbone(case, level):
    ours = case.stages[f"c{level + 2}"]
    expected = case.expected["features"][level]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=case.tolerance("features", level))


@pytest.mark.parametrize("level", range(5))
def test_pyramid(case, level):
    ours = case.stages[f"p{level + 2}"]
    expected = case.expected["pyramid"][level]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=case.tolerance("pyramid", level))


def test_anchors(case):
    shapes = [case.stages[f"p{i}"].shape[:2] for i in range(2, 7)]
    levels = pyramid_anchors(shapes, (HEIGHT, WIDTH), **asdict(case.config.anchors))
    ours = np.concatenate(levels) - [0, 0, 1, 1]
    # Both are exact in float64; ours are rounded to float32 once.
    np.testing.assert_allclose(ours, inclusive(case.expected["anchors"]), atol=4 * EPS * WIDTH)


def test_rpn(case):
    probabilities = 1 / (1 + np.exp(-case.stages["rpn_logits"]))
    case.assert_close(np.stack([1 - probabilities, probabilities], axis=-1), "rpn_probabilities")
    case.assert_close(case.stages["rpn_deltas"][:, [1, 0, 3, 2]], "rpn_deltas")


def test_proposals(case):
    assert 0 < len(case.expected["rois"]) < SETTINGS.post_nms_rois
    scores = case.stages["proposal_scores"]
    case.assert_close(scores[case.proposal_order], "roi_scores")
    assert (np.diff(scores) <= 0).all()
    assert (case.stages["proposals"] > [169, 111, 169, 111]).any()  # clipped to the input alone


def test_box_head(case):
    levels = [reference.level_of(box, (HEIGHT, WIDTH), 30) for box in case.expected["rois"]]
    assert set(levels) == {2, 3, 4, 5}
    for name in ("box_features", "class_logits"):
        case.assert_close(case.stages[name][case.proposal_order], name)
    case.assert_close(
        case.stages["box_deltas"][case.proposal_order][..., [1, 0, 3, 2]], "box_deltas"
    )


def test_detections(case):
    assert set(case.expected["class_logits"].argmax(1)) == {0, 1, 2, 3}
    assert set(case.expected["classes"]) == {1, 2, 3}
    detections, order = case.detections, case.detection_order
    np.testing.assert_array_equal(detections.classes[0][order], case.expected["classes"])
    case.assert_close(detections.scores[0][order], "scores")
    assert (np.diff(detections.scores[0]) <= 0).all()


def test_masks(case):
    case.assert_close(case.stages["mask_features"][case.detection_order], "mask_features")
    case.assert_close(case.detections.masks[0][case.detection_order], "masks")


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
    boxes = np.float32([[100, 200, 300, 250], [0, 5, 90, 500]])  # (x, y), inclusive corners
    deltas = np.float32([[0.4, -1.2, 0.7, -2.0], [-0.3, 0.9, -1.1, 0.2]])  # dy, dx, dh, dw
    config = config_model()
    expected = reference.refined(boxes[:, [1, 0, 3, 2]] / 1023, deltas)[:, [1, 0, 3, 2]] * 1023
    for weights in (config.rpn.coder_weights, config.box_head.coder_weights):
        ours = box_ops.decode(deltas[:, [1, 0, 3, 2]], boxes, weights)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=16 * EPS * 1023)
