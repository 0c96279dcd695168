"""A result over its image."""

import numpy as np

from maskrcnn_jax.images.paste import MaskCrop
from maskrcnn_jax.inference.result import Result
from maskrcnn_jax.visualization.drawing import color
from maskrcnn_jax.visualization.overlay import draw_result


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
