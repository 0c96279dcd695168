"""Keypoints of a result: in the image's pixels, in files, over tiles, in a picture."""

import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.data.formats import labelme
from maskrcnn_jax.data.read_options import ReadOptions
from maskrcnn_jax.inference.forward import prediction
from maskrcnn_jax.inference.result import to_result
from maskrcnn_jax.inference.test_time import parse_views
from maskrcnn_jax.inference.tiles import merge_tiles
from maskrcnn_jax.keypoint_set import KeypointSet
from maskrcnn_jax.models.build import make_model
from maskrcnn_jax.models.detections import Detections

KEYPOINTS = KeypointSet(("nose", "tail"), (0, 1), ((0, 1),), (0.05, 0.05))
BOXES = np.float32([[[10, 10, 40, 30], [50, 20, 90, 48], [0, 0, 0, 0]]])
POINTS = np.float32([[[12, 11, 0.9], [30, 20, 0.4]], [[60, 30, 0.8], [70, 40, 0.01]]])


def found(boxes=BOXES, points=POINTS, keypoints=KEYPOINTS):
    """Of an image of 100 x 200 pixels, which the network saw at half the size."""
    empty = np.full((1, 1, 2, 3), np.nan, np.float32)
    detections = Detections(
        boxes,
        np.float32([[0.9, 0.8, 0]]),
        np.array([[1, 1, 0]]),
        None,
        np.array([[True, True, False]]),
        np.concatenate([points[None], empty], 1),
    )
    return to_result(detections, 0, np.array([50, 100]), np.array([100, 200]), ("dog",), 0.0,
                     keypoints=keypoints)  # fmt: skip


def test_they_are_in_pixels_of_the_image():
    result = found()
    np.testing.assert_allclose(result.keypoints[0], [[24, 22, 0.9], [60, 40, 0.4]])
    assert [len(one.keypoints) for one in result] == [2, 2]
    assert result.filter(score=0.85).keypoints.shape == (1, 2, 3)
    shifted = found(keypoints=KeypointSet(("nose", "tail"), (0, 1), half_pixel=False))
    np.testing.assert_allclose(shifted.keypoints[0, 0], [24.5, 22.5, 0.9])


def test_they_name_pixels_in_coco_s_results():
    first, _ = json.loads(json.dumps(found().to_coco()))
    assert first["keypoints"] == pytest.approx([23.5, 21.5, 0.9, 59.5, 39.5, 0.4])
    assert "segmentation" not in first


def test_labelme_gives_back_those_that_are_to_be_seen(tmp_path):
    Image.new("L", (200, 100)).save(tmp_path / "a.png")
    content = found().to_labelme("a.png")
    (tmp_path / "a.json").write_text(json.dumps(content))
    dataset = labelme.read(tmp_path, options=ReadOptions(keypoints=KEYPOINTS.names))
    assert not dataset.faults
    assert dataset.class_names == ("dog",)
    expected = found().keypoints.copy()
    expected[..., 2] = 2
    expected[1, 1] = 0  # too unsure
    np.testing.assert_allclose(dataset.records[0].keypoints, expected)


def test_parts_of_an_object_give_their_best_ones():
    """An object across two tiles, one keypoint in each; and one that only the second shows."""
    across = np.float32([[[0, 10, 50, 40], [0, 0, 0, 0], [0, 0, 0, 0]]])
    left = found(across, POINTS[[0, 0]]).chosen([0])
    right = found(across, np.float32([[[1, 2, 0.2], [3, 4, 0.7]]] * 2)).chosen([0])
    merged = merge_tiles([left, right], [(0, 0, 100, 100), (80, 0, 180, 100)], 100, 180)
    assert len(merged) == 1
    np.testing.assert_allclose(merged.keypoints[0], [[24, 22, 0.9], [80 + 6, 8, 0.7]])


def test_a_picture_has_points_and_lines():
    image = np.zeros((100, 200, 3), np.uint8)
    result = found()
    with_points = result.draw(image, scale=1)
    without = found(keypoints=None).draw(image, scale=1)
    differs = (with_points != without).any(-1)
    assert differs[22, 24]
    assert differs[31, 42]  # halfway along the line
    assert not differs[80, 140]  # the tail of the second, too unsure


def test_views_do_not_join_keypoints():
    model = get_config().model
    set_values(model.keypoints, {"names": ("a",)})
    with pytest.raises(ValueError, match="test-time augmentation does not join keypoints"):
        prediction(make_model(model, 1), views=parse_views("flip"))
