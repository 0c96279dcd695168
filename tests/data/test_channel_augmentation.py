"""Every augmentation on images of other channels and depths than RGB of 8 bits."""

import itertools

import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.data.augment.augmentation import fill_values
from maskrcnn_jax.data.augment.colour import add_noise, change_colours, map_colours
from maskrcnn_jax.data.augment.geometry import Geometry, map_pixels
from maskrcnn_jax.data.augment.random_streams import Streams
from maskrcnn_jax.data.input.sample import example_spec, make_example
from maskrcnn_jax.data.input.tiles import training_samples, whole_images
from maskrcnn_jax.data.masks.segmentation import Polygons
from maskrcnn_jax.data.records import Dataset, Instance, make_record
from maskrcnn_jax.images.pixels import PixelFormat

FORMATS = [PixelFormat(1), PixelFormat(5), PixelFormat(1, 16), PixelFormat(5, 16)]
HEIGHT, WIDTH = 40, 60


def settings(pixels: PixelFormat, **augment):
    data = get_config().data
    data.channels, data.depth = pixels[:2]
    data.resize, data.buckets, data.mask_size = "square", ((64, 64),), 14
    data.augment.flip = 0.0
    data.augment.fill = (7,)
    set_values(data.augment, augment)
    data.validate()
    return data


def noise(pixels: PixelFormat, seed: int = 0) -> np.ndarray:
    """An image whose values stay off both ends of the range; no two channels are alike."""
    most = np.iinfo(pixels.dtype).max
    shape = (HEIGHT, WIDTH, pixels.channels)
    rng = np.random.default_rng(seed)
    return rng.integers(most // 5, most // 2, shape).astype(pixels.dtype)


def dataset_of(images: list[np.ndarray]) -> Dataset:
    box = np.array([10.0, 8, 40, 30])
    corners = box[[[0, 1], [2, 1], [2, 3], [0, 3]]]
    square = Instance(box, 1, False, Polygons([corners]), 1, 30.0 * 22)
    records = [make_record(i, f"{i}", HEIGHT, WIDTH, [square]) for i in range(len(images))]
    return Dataset("test", ("a",), (1,), records, lambda record: images[record.image_id])


GEOMETRY = {
    "nothing": {},
    "mirrored": {"flip": 1.0},
    "upside down": {"vertical_flip": 1.0},
    "turned": {"quarter_turns": 1.0},
    "rotated": {"rotate": 30.0},
    "part": {"crop": 1.0},
    "jittered": {"scale_range": (0.3, 1.8)},
    "pasted": {"copy_paste": 1.0},
    "tile": {"tile": 32},
    "all": {"flip": 0.5, "crop": 0.5, "rotate": 9.0, "quarter_turns": 0.5, "copy_paste": 1.0},
}


@pytest.mark.parametrize("pixels", FORMATS, ids=str)
@pytest.mark.parametrize("kind", GEOMETRY)
def test_geometry_does_with_each_channel_what_it_does_alone(pixels, kind):
    """The channels of an image come out as images of one channel each do."""
    images = [noise(pixels, seed) for seed in (0, 1)]
    data = settings(pixels, **GEOMETRY[kind])
    alone = settings(PixelFormat(1, pixels.depth), **GEOMETRY[kind])

    def made(data, images, index=0):
        dataset = dataset_of(images)
        samples = training_samples(dataset.records, data.augment)
        record, window = samples[index]
        return make_example(record, dataset, data, Streams(3, 0, index), window, samples)[0]

    found = made(data, images)
    spec = example_spec((64, 64), data.max_instances, 14, pixels)
    assert {name: (a.shape, a.dtype.type) for name, a in found.items()} == spec
    assert found["image"].any((0, 1)).all()
    for c in range(pixels.channels):
        single = made(alone, [image[..., [c]] for image in images])
        difference = found["image"][..., c].astype(int) - single["image"][..., 0]
        assert np.abs(difference).max() <= 1  # OpenCV's rounding depends on how many there are
        for name in found.keys() - {"image"}:
            np.testing.assert_array_equal(found[name], single[name])


@pytest.mark.parametrize("pixels", FORMATS, ids=str)
def test_a_rotation_fills_the_corners_of_each_channel(pixels):
    most = np.iinfo(pixels.dtype).max
    image = np.full((HEIGHT, WIDTH, pixels.channels), most, pixels.dtype)
    size = HEIGHT, WIDTH
    turned = Geometry((0, 0, WIDTH, HEIGHT), size, size, angle=30.0)
    fill = tuple(range(3, 3 + pixels.channels))
    found = map_pixels(image, turned, fill)
    assert found[0, 0].tolist() == list(fill)
    assert found[20, 30].tolist() == [most] * pixels.channels
    assert map_pixels(image, turned, (9,))[0, 0].tolist() == [9] * pixels.channels


@pytest.mark.parametrize("pixels", FORMATS, ids=str)
def test_brightness_and_contrast_by_hand(pixels):
    image = noise(pixels)
    most, mean = np.iinfo(pixels.dtype).max, image.mean((0, 1))
    for brightness, contrast in itertools.product((0.8, 1.0, 3.0), (0.5, 1.0)):
        expected = brightness * (mean + contrast * (image - mean))
        found = map_colours(image, brightness, contrast)
        assert found.dtype == pixels.dtype
        assert np.abs(found - expected.clip(0, most)).max() <= 0.6 + most * 1e-6


@pytest.mark.parametrize("pixels", FORMATS, ids=str)
def test_noise_and_blur_are_on_the_scale_of_the_image(pixels):
    most = np.iinfo(pixels.dtype).max
    even = np.full((100, 100, pixels.channels), most // 2, pixels.dtype)
    deviations = []
    for seed in range(20):
        noisy = add_noise(np.random.default_rng(seed), even, most / 20)
        assert noisy.dtype == pixels.dtype
        deviations.append(noisy.std((0, 1)).mean() / most)
    assert 0.04 < max(deviations) < 0.052
    data = settings(pixels, noise=float(most))  # no more than there are levels
    with pytest.raises(ValueError, match=rf"noise is .* expected 0 to {most}"):
        settings(pixels, noise=most + 1.0)
    image = noise(pixels)
    set_values(data.augment, {"noise": 0.0, "blur": 1.0, "blur_range": (2.0, 2.0)})
    blurred = change_colours(Streams(0, 0, 0), image, data.augment)
    assert (blurred.shape, blurred.dtype) == (image.shape, image.dtype)
    np.testing.assert_allclose(blurred.mean((0, 1)), image.mean((0, 1)), rtol=0.02)
    assert np.all(blurred.std((0, 1)) < 0.3 * image.std((0, 1)))


@pytest.mark.parametrize("key", ["saturation", "hue", "grey"])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_changes_of_colour_need_three_channels(key, channels):
    with pytest.raises(
        ValueError, match=rf"{key} is 0\.5, of red.* config\.data\.channels is {channels}"
    ):
        settings(PixelFormat(channels), **{key: 0.5})
    settings(PixelFormat(3, 16), **{key: 0.5})


def test_colour_of_16_bits_is_that_of_8():
    image = noise(PixelFormat(3))
    deep = image.astype(np.uint16) * 257
    change = dict(brightness=1.1, contrast=0.8, saturation=0.6, turn=0.05)
    found = map_colours(deep, **change) / 257
    assert (
        np.abs(found - map_colours(image, **change)).max() <= 0.75
    )  # 8 bits are computed in fixed point


def test_the_fill_fits_the_channels_where_it_is_seen():
    with pytest.raises(ValueError, match=r"fill is \(1, 2, 3\); expected 5 numbers, .* for all"):
        settings(PixelFormat(5), rotate=9.0, fill=(1, 2, 3))
    with pytest.raises(ValueError, match=r"fill is \(256,\); expected one number, 0 to 255"):
        settings(PixelFormat(1), rotate=9.0, fill=(256,))
    settings(PixelFormat(1, 16), rotate=9.0, fill=(256,))
    unseen = settings(PixelFormat(5), fill=(1, 2, 3))
    assert fill_values(unseen) == (0,)
    assert fill_values(settings(PixelFormat(5), fill=(1, 2, 3, 4, 5))) == (1, 2, 3, 4, 5)


def test_unaugmented_images_are_as_predictions_have_them():
    pixels = PixelFormat(5, 16)
    image = noise(pixels)
    dataset, data = dataset_of([image]), settings(pixels)
    (sample,) = whole_images(dataset.records)
    found, _ = make_example(sample.record, dataset, data)
    height, width = found["image_size"].astype(int)
    assert (height, width) == (42, 64)
    assert not found["image"][height:].any()
    # Twice the middle of the image is an average of what lies around it.
    low, high = image.min((0, 1)), image.max((0, 1))
    inside = found["image"][:height, :width]
    assert np.all((inside >= low) & (inside <= high))
