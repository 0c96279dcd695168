"""A result over its image."""

import numpy as np

from maskrcnn_jax.images.paste import MaskCrop
from maskrcnn_jax.inference.result import Result
from maskrcnn_jax.visualization.overlay import draw_result
from maskrcnn_jax.visualization.style import Style, color


def test_masks_lie_where_their_crops_do():
    image = np.zeros((100, 200, 3), np.uint8)
    left = MaskCrop(np.ones((40, 40), bool), 10, 20)
    right = MaskCrop(np.ones((30, 60), bool), 60, 120)
    result = Result(
        boxes=np.array([[20, 10, 60, 50], [120, 60, 180, 90]], np.float32),
        scores=np.array([0.9, 0.3], np.float32),
        classes=np.array([1, 2], np.int32),
        class_names=("a", "b"),
        crops=(left, right),
        height=100,
        width=200,
    )
    picture = draw_result(image, result)
    assert picture.shape == (400, 800, 3)  # four times as large
    for i, (y, x) in enumerate([(30, 40), (75, 150)]):
        tint = 0.45 * np.array(color(i))
        np.testing.assert_allclose(picture[4 * y, 4 * x], tint, atol=1)
    assert not picture[:200, 400:].any()
    assert not draw_result(image, result, min_score=0.5)[220:].any()


def test_classes_share_a_colour_and_a_splash_leaves_objects_in_colour():
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    crops = tuple(MaskCrop(np.ones((20, 20), bool), 10, x) for x in (5, 35, 65))
    result = Result(
        boxes=np.array([[x, 10, x + 20, 30] for x in (5, 35, 65)], np.float32),
        scores=np.array([0.9, 0.8, 0.3], np.float32),
        classes=np.array([2, 1, 2], np.int32),
        class_names=("b", "a", "b"),
        crops=crops,
        height=60,
        width=90,
    )
    plain = draw_result(image, result, style=Style(color_by="class", opacity=1.0))
    scale = plain.shape[0] // 60
    seen = [tuple(plain[20 * scale, x * scale]) for x in (15, 45, 75)]
    assert seen == [color(1), color(0), color(1)]
    splash = draw_result(image, result, min_score=0.5, style=Style(splash=True))
    inside = np.zeros((60, 90), bool)
    inside[10:30, 5:25] = inside[10:30, 35:55] = True
    np.testing.assert_array_equal(splash[inside], image[inside])
    assert (splash[~inside] == splash[~inside][:, :1]).all()
    assert splash.shape == image.shape
