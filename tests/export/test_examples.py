"""The images of the comparison: given ones as the network gets them, and generated ones."""

import cv2
import numpy as np
import pytest

from maskrcnn_jax.export import examples
from tests.export.nets import detector


def test_files_and_folders_in_order(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt"):
        (tmp_path / name).touch()
    single = tmp_path / "notes.txt"  # given by name: whatever its name
    found = examples.find([str(tmp_path), str(single)], 10)
    assert [path.name for path in found] == ["a.JPG", "b.png", "notes.txt"]
    assert len(examples.find([str(tmp_path)], 1)) == 1


def test_no_images(tmp_path):
    with pytest.raises(ValueError, match="no image files"):
        examples.find([str(tmp_path)], 1)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        examples.find([str(tmp_path / "nowhere")], 1)


def test_images_fit_a_bucket_that_the_configuration_has_not(tmp_path):
    """200 x 50 pixels in 96 x 64: 96 x 24 at the top left."""
    path = tmp_path / "white.png"
    cv2.imwrite(str(path), np.full((200, 50, 3), 255, np.uint8))
    (image, size) = examples.read([path], detector("torchvision_v1").data_of((96, 64)))[0]
    assert image.shape == (96, 64, 3)
    assert size.tolist() == [96, 24]
    assert (image[:, :24] == 255).all()
    assert (image[:, 24:] == 0).all()


@pytest.mark.parametrize(
    ("dialect", "dtype", "channels"), [("torchvision_v1", np.uint8, 3), ("mixed", np.uint16, 5)]
)
def test_generated_images(dialect, dtype, channels):
    data = detector(dialect).data_of((64, 96))
    first, second = examples.generated(2, data, (64, 96))
    assert first[0].dtype == dtype
    assert first[0].shape == (64, 96, channels)
    assert first[1].tolist() == [64, 96]
    assert (second[1] <= [64, 96]).all()
    height, width = second[1].astype(int)
    assert not second[0][height:].any()
    assert not second[0][:, width:].any()
    np.testing.assert_array_equal(first[0], examples.generated(1, data, (64, 96))[0][0])
