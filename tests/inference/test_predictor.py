"""The predictor: kinds of input, order, padding of batches, compilations."""

import cv2
import numpy as np
import pytest

from tests.inference.tiny_model import CLASS_NAMES, tiny_predictor


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    shapes = [(64, 64), (30, 60), (90, 70), (128, 128), (20, 50)]
    return [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]


def _same(a, b):
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
    np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-3)
    assert a.class_names == b.class_names


def test_result_is_in_pixels_of_the_image(images):
    result, stages = tiny_predictor().stages(images[2])
    assert len(result) > 0
    assert set(result.class_names) <= set(CLASS_NAMES)
    assert (result.boxes >= 0).all()
    assert (result.boxes <= [70, 90, 70, 90]).all()
    height, width = stages["input_size"][0]
    seen = result.boxes / [70, 90, 70, 90] * [width, height, width, height]
    np.testing.assert_allclose(seen, stages["detections"].boxes[0, : len(result)], atol=1e-3)
    assert result.masks.shape == (len(result), 90, 70)
    assert (np.diff(result.scores) <= 0).all()


def test_paths_and_arrays_give_the_same(images, tmp_path):
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), images[0][..., ::-1])
    _same(tiny_predictor()(path), tiny_predictor()(images[0]))
    _same(tiny_predictor()(str(path)), tiny_predictor()(images[0]))


def test_several_images_keep_their_order_whatever_the_batches(images):
    one_by_one = [tiny_predictor()(image) for image in images]
    together = tiny_predictor(batch_size=2)(images)
    assert len(together) == 5
    for a, b in zip(one_by_one, together, strict=True):
        _same(a, b)
        assert (a.height, a.width) == (b.height, b.width)
    assert tiny_predictor()([]) == []


def test_one_compilation_for_each_bucket(images):
    predictor = tiny_predictor(batch_size=2)
    predictor(images)
    predictor(images[:1])
    assert predictor._predict._cache_size() == 2


def test_min_score(images):
    scores = tiny_predictor()(images[0]).scores
    limit = float(scores[1])
    assert len(tiny_predictor()(images[0], min_score=limit)) == (scores >= limit).sum()


def test_stages_give_the_same_result_and_what_the_network_saw(images):
    result, stages = tiny_predictor().stages(images[1])
    _same(result, tiny_predictor()(images[1]))
    assert stages["input"].shape == (1, 32, 64, 3)
    assert stages["input_size"].tolist() == [[32, 64]]
    assert stages["p2"].shape[:3] == (1, 8, 16)


def test_wrong_input_is_named(tmp_path):
    with pytest.raises(ValueError, match="float64"):
        tiny_predictor()(np.zeros((10, 10, 3)))
    with pytest.raises(ValueError, match=r"\(10, 10\)"):
        tiny_predictor()(np.zeros((10, 10), np.uint8))
    (tmp_path / "no.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"no\.jpg"):
        tiny_predictor()(tmp_path / "no.jpg")
    with pytest.raises(ValueError, match="batch_size"):
        tiny_predictor(0)
