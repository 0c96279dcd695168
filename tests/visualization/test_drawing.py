"""Drawing: what is drawn where, and what is left alone."""

import cv2
import numpy as np
import pytest

from maskrcnn_jax.images.png import encode_png
from maskrcnn_jax.visualization.drawing import (
    as_rgb,
    draw_detections,
    enlarged,
    side_by_side,
)
from maskrcnn_jax.visualization.style import color


def test_colors_are_stable_and_distinct():
    colors = [color(i) for i in range(40)]
    assert colors == [color(i) for i in range(40)]
    for i, paint in enumerate(colors):
        assert all(0 <= channel <= 255 for channel in paint)
        near = [np.abs(np.subtract(paint, other)).sum() for other in colors[max(0, i - 6) : i]]
        assert all(distance > 60 for distance in near)


def test_mask_tints_its_pixels_and_no_others():
    image = np.full((600, 600, 3), 100, np.uint8)
    mask = np.zeros((600, 600), bool)
    mask[200:400, 100:300] = True
    box = np.array([[100, 200, 300, 400]], np.float32)
    picture = draw_detections(image, box, [mask], colors=[3])
    inside = picture[250:350, 150:250].reshape(-1, 3)
    assert (inside == inside[0]).all()
    np.testing.assert_allclose(inside[0], 0.55 * 100 + 0.45 * np.array(color(3)), atol=1)
    changed = (picture != image).any(axis=-1)
    assert not changed[:196].any()
    assert not changed[:, :96].any()
    assert not changed[404:].any()
    assert changed[202:398, 102:298].all()
    assert (image == 100).all()  # the image given stays as it was


def test_labels_stay_inside_the_picture():
    image = np.zeros((200, 300, 3), np.uint8)
    boxes = np.array([[0, 0, 50, 50], [280, 100, 300, 120], [10, 190, 40, 200]], np.float32)
    plain = draw_detections(image, boxes)
    named = draw_detections(image, boxes, labels=["a long name"] * 3, scores=[0.9, 0.8, 0.7])
    changed = (plain != named).any(axis=-1)
    assert changed[:16, :40].any()  # below the upper edge, where above is no room
    assert changed[80:100, 150:280].any()  # shifted left at the right edge
    assert changed[170:190, 10:60].any()


def test_one_mask_for_every_box():
    image = np.zeros((20, 20, 3), np.uint8)
    boxes = np.array([[0, 0, 5, 5], [5, 5, 9, 9]], np.float32)
    with pytest.raises(ValueError, match="zip"):
        draw_detections(image, boxes, [np.ones((20, 20), bool)])
    assert draw_detections(image, boxes[:0], []).sum() == 0


def test_small_images_are_enlarged_by_a_whole_factor():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    large, scale = enlarged(image)
    assert scale == 400
    assert large.shape == (800, 800, 3)
    assert (large[:400, 400:] == image[0, 1]).all()
    assert enlarged(np.zeros((800, 20, 3), np.uint8))[1] == 1


def test_images_of_other_channels_are_shown_as_rgb():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 5), np.uint8)
    np.testing.assert_array_equal(as_rgb(image), image[..., :3])
    for channels in (1, 2):
        np.testing.assert_array_equal(as_rgb(image[..., :channels]), image[..., [0, 0, 0]])
    rgb = image[..., :3].copy()
    assert as_rgb(rgb).base is rgb
    np.testing.assert_array_equal(enlarged(image, 2)[0][::2, ::2], rgb)


def test_16_bits_are_stretched_between_percentiles():
    ramp = np.arange(1000, 1101, dtype=np.uint16).reshape(1, 101, 1)  # percentiles 1001 and 1099
    image = np.concatenate([ramp, 10 * ramp, ramp], 2)
    padded = np.zeros((9, 101, 3), np.uint16)  # most of it is padding, which does not count
    padded[:1] = image
    shown = as_rgb(padded)
    assert shown.dtype == np.uint8
    assert shown[0, [0, 1, 50, 99, 100], 0].tolist() == [0, 0, 128, 255, 255]
    np.testing.assert_array_equal(shown[0, :, 1], shown[0, :, 0])  # each channel by itself
    assert not shown[1:].any()
    assert not as_rgb(np.zeros((4, 4, 1), np.uint16)).any()


def test_png_keeps_every_pixel():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    decoded = cv2.imdecode(np.frombuffer(encode_png(image), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded[..., ::-1], image)


def test_side_by_side():
    left, right = np.zeros((10, 20, 3), np.uint8), np.full((10, 30, 3), 9, np.uint8)
    joined = side_by_side([left, right], ["a", "b"])
    np.testing.assert_array_equal(joined[-10:, :20], left)
    np.testing.assert_array_equal(joined[-10:, -30:], right)
