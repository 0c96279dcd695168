"""The predictor: kinds of input, order, padding of batches, compilations."""

import copy
import re
from dataclasses import replace

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from maskrcnn_jax.config_json import to_json
from maskrcnn_jax.images.pixels import PixelFormat
from maskrcnn_jax.images.read import read_image
from maskrcnn_jax.inference.predictor import Predictor
from tests.end_to_end.tiny import get_config
from tests.inference.tiny_model import CLASS_NAMES, tiny_predictor, tiny_variables


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
    assert predictor._steps[None]._cache_size() == 2


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
    for shape in ((10,), (10, 0, 3), (10, 10, 5)):
        with pytest.raises(ValueError, match=re.escape(str(shape))):
            tiny_predictor()(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="the image given as bytes is not a readable image"):
        tiny_predictor()(b"no image")
    with pytest.raises(ValueError, match=r"http\(s\) address .* given: NoneType"):
        tiny_predictor()([None])
    (tmp_path / "no.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"no\.jpg"):
        tiny_predictor()(tmp_path / "no.jpg")
    with pytest.raises(ValueError, match="batch_size"):
        tiny_predictor(0)


def test_every_kind_of_image_gives_the_same(images, tmp_path):
    image, predictor = images[0], tiny_predictor()
    expected = predictor(image)
    assert len(expected) > 0
    clear = np.dstack([image, np.full((64, 64), 7, np.uint8)])
    Image.fromarray(image).save(tmp_path / "a.png")
    for given in (
        jnp.asarray(image),
        clear,
        Image.fromarray(image),
        Image.fromarray(clear),
        Image.open(tmp_path / "a.png"),
        (tmp_path / "a.png").read_bytes(),
    ):
        _same(predictor(given), expected)
    grey = image[..., 0]
    as_grey = predictor(np.repeat(grey[..., None], 3, 2))
    for given in (grey, grey[..., None], Image.fromarray(grey), jnp.asarray(grey)):
        _same(predictor(given), as_grey)


def test_an_array_of_several_images_is_a_list_of_them(images):
    several = np.stack([images[0], images[0][::-1]])
    for given in (several, jnp.asarray(several), list(several)):
        results = tiny_predictor()(given)
        assert len(results) == 2
        for result, image in zip(results, several, strict=True):
            _same(result, tiny_predictor()(image))


def test_images_of_pillow_are_taken_as_they_lie_in_memory(images, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(images[1]).save(tmp_path / "a.png", exif=exif)
    assert tiny_predictor().read(tmp_path / "a.png").shape == (60, 30, 3)
    opened = Image.open(tmp_path / "a.png")
    assert tiny_predictor().read(opened).shape == (*opened.size[::-1], 3) == (30, 60, 3)


def test_max_pixels(images, tmp_path):
    Image.fromarray(images[3]).save(tmp_path / "a.png")
    metadata = {"config": to_json(get_config()), "class_names": CLASS_NAMES, "category_ids": (1,)}
    with pytest.raises(ValueError, match=r"a\.png has 128 x 128 pixels, more than the 100"):
        Predictor(tiny_variables(), metadata, max_pixels=100).read(tmp_path / "a.png")


def test_percentiles_make_files_and_arrays_of_12_bits_bright(tmp_path):
    deep = np.random.default_rng(0).integers(100, 4000, (40, 60), np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    predictor = copy.copy(tiny_predictor())
    assert predictor.read(tmp_path / "a.png").max() == 15
    predictor.image_config = replace(predictor.image_config, normalize="percentile")
    expected = read_image(tmp_path / "a.png", wanted=PixelFormat(3, 8, (1.0, 99.8)))
    assert expected.dtype == np.uint8
    assert (expected.min(), expected.max()) == (0, 255)
    for given in (tmp_path / "a.png", Image.open(tmp_path / "a.png"), deep, deep[..., None]):
        np.testing.assert_array_equal(predictor.read(given), expected)


def test_an_image_that_was_read_is_not_stretched_a_second_time(tmp_path):
    """`predict.py` and the server read an image, then pass it: stretching twice is as once."""
    predictor, rng = copy.copy(tiny_predictor()), np.random.default_rng(0)
    predictor.image_config = replace(predictor.image_config, normalize="percentile")
    dark = np.clip(rng.exponential(900, (40, 60)), 0, 2**16 - 1)
    sparse = np.where(rng.random((40, 60)) < 0.001, 60_000, 300)
    few = rng.integers(500, 503, (40, 60))
    for image in (dark, sparse, few, np.full((40, 60), 7)):
        read = predictor.read(image.astype(np.uint16))
        np.testing.assert_array_equal(predictor.read(read), read)


def test_a_result_knows_its_image(images, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(images[2]).save(path)
    from_file, from_array = tiny_predictor()([path, images[2]])
    assert from_file.source.path == path
    assert from_array.source.path is None
    np.testing.assert_array_equal(from_file.draw(), from_array.draw())
    assert {entry["category_id"] for entry in from_file.to_coco()} <= {10, 20, 30}


def test_an_address_is_fetched_once(images, tmp_path, monkeypatch):
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    asked = []

    def download(address):
        asked.append(address)
        return (tmp_path / "a.png").read_bytes()

    monkeypatch.setattr("maskrcnn_jax.images.download.download", download)
    result = tiny_predictor()("https://host/a.png")
    _same(result, tiny_predictor()(images[0]))
    assert result.draw().shape == (832, 832, 3)
    assert asked == ["https://host/a.png"]
    _same(tiny_predictor().stages("https://host/a.png")[0], result)
    assert len(asked) == 2


def test_a_stream_gives_results_before_its_end(images):
    taken = []

    def frames():
        while True:
            taken.append(len(taken))
            yield images[0]

    stream = tiny_predictor().stream(frames())
    assert [next(stream)[0] for _ in range(3)] == [0, 1, 2]
    assert len(taken) == 4  # one is ahead on the device
