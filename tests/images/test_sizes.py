"""Sizes, buckets and resizing, against torchvision's values and worked by hand."""

import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.images import sizes

COCO_BUCKETS = ((800, 1088), (1088, 800), (800, 1344), (1344, 800))


@pytest.fixture
def data():
    return get_config().data


def test_sizes_agree_with_torchvision(parity_dir, data):
    with np.load(parity_dir / "ops.npz") as values:
        given, expected = values["resize.in_hw"], values["resize.out_hw"]
    for (height, width), size in zip(given.tolist(), expected.tolist(), strict=True):
        assert sizes.short_side_size(height, width, 800, 1333) == tuple(size)
        assert sizes.resized_size(height, width, data) == tuple(size)


def test_transform_agrees_with_torchvision(parity_dir):
    with np.load(parity_dir / "ops.npz") as file:
        values = {key: file[key] for key in file if key.startswith("transform.")}
    mean = np.array([0.485, 0.456, 0.406]) * 255
    std = np.array([0.229, 0.224, 0.225]) * 255
    for i, size in enumerate(values["transform.image_sizes"].tolist()):
        image, boxes = values[f"transform.image.{i}"], values[f"transform.boxes.{i}"]
        hw = image.shape[:2]
        assert sizes.short_side_size(*hw, 64, 96) == tuple(size)
        resized = sizes.resize_image(image, size)
        expected = values["transform.batch"][i][:, : size[0], : size[1]].transpose(1, 2, 0)
        # Ours is rounded to whole numbers; OpenCV's fixed-point weights add a little to that.
        assert np.abs(resized - (expected * std + mean)).max() < 0.75
        moved = sizes.resize_boxes(boxes, hw, size)
        np.testing.assert_allclose(moved, values[f"transform.out_boxes.{i}"], rtol=1e-6)
        back = sizes.resize_boxes(moved, size, hw)
        np.testing.assert_allclose(back, values[f"transform.boxes_back.{i}"], rtol=1e-6)


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((800, 1066), 0),
        ((1066, 800), 1),
        ((800, 800), 0),  # fits all; the first of the smallest
        ((800, 1089), 2),
        ((800, 1333), 2),
        ((1333, 800), 3),
        ((749, 1333), 2),
    ],
)
def test_the_smallest_fitting_bucket_is_chosen(size, bucket):
    assert sizes.choose_bucket(*size, COCO_BUCKETS) == bucket


def test_every_common_shape_fits_a_default_bucket(data):
    for height in range(10, 3000, 97):
        for width in range(10, 3000, 89):
            size = sizes.resized_size(height, width, data)
            assert size == sizes.short_side_size(height, width, 800, 1333)
            sizes.choose_bucket(*size, data.buckets)


def test_an_image_that_fits_no_bucket_is_made_smaller(data):
    data.buckets = ((800, 1088), (640, 1088))
    assert sizes.resized_size(480, 640, data) == (800, 1066)
    # By the rule alone 800 x 1333, too wide; 1088 / 1333 of that fits.
    assert sizes.resized_size(600, 1000, data) == (652, 1088)
    # By the rule alone 1066 x 800, too high.
    assert sizes.resized_size(640, 480, data) == (800, 600)
    assert sizes.bucket_of_size(640, 480, data) == 0
    assert sizes.bucket_of_size(400, 1000, data) == 1


def test_square_fills_the_longest_side(data):
    data.resize = "square"
    data.buckets = ((512, 512),)
    assert sizes.resized_size(480, 640, data) == (384, 512)
    assert sizes.resized_size(64, 48, data) == (512, 384)
    assert sizes.resized_size(100, 100, data) == (512, 512)
    assert sizes.resized_size(1, 5000, data) == (1, 512)


def test_what_cannot_be_placed_is_refused(data):
    with pytest.raises(ValueError, match="0 x 5"):
        sizes.resized_size(0, 5, data)
    with pytest.raises(ValueError, match="900 x 900"):
        sizes.choose_bucket(900, 900, data.buckets)


def test_prepare_image_resizes_and_pads_at_right_and_bottom(data):
    data.short_side, data.long_side = 64, 96
    data.buckets = ((64, 96), (96, 64))
    image = np.full((40, 50, 3), 200, np.uint8)
    padded, valid = sizes.prepare_image(image, data)
    assert padded.shape == (64, 96, 3)
    assert padded.dtype == np.uint8
    np.testing.assert_array_equal(valid, np.array([64, 80], np.float32))
    assert np.all(padded[:64, :80] == 200)
    assert np.all(padded[:, 80:] == 0)


def test_resizing_upward_interpolates_between_pixel_centres():
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 1] = 100
    # Centres of four output pixels lie at -0.25, 0.25, 0.75, 1.25 of the input's centres.
    np.testing.assert_array_equal(
        sizes.resize_image(image, (1, 4))[0, :, 0], np.array([0, 25, 75, 100], np.uint8)
    )
