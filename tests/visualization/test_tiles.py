"""Tables of pictures, and what is cut out of an image."""

import numpy as np

from maskrcnn_jax.visualization.tiles import crop, heat, table


def test_cells_keep_their_shape():
    wide, tall = np.full((10, 20, 3), 50, np.uint8), np.full((40, 20), 90, np.uint8)
    picture = table([[wide, tall]], ["a", "b"], [""], side=40)
    assert picture.shape == (28 + 40 + 20, 2 * 40 + 6, 3)
    assert (picture[28:48, :40] == 50).all()
    assert (picture[48:68, :40] == 200).all()  # the rest of the square
    assert (picture[28:68, 46:66] == 90).all()
    assert (picture[28:68, 66:] == 200).all()


def test_a_table_without_rows_has_its_titles():
    assert table([], ["a", "b"], [], side=40).shape == (28, 86, 3)


def test_crops_stay_inside_the_image():
    image = np.arange(20).reshape(4, 5)
    np.testing.assert_array_equal(crop(image, np.array([1.2, 0.5, 2.5, 2.0])), image[:2, 1:3])
    np.testing.assert_array_equal(crop(image, np.array([-3.0, -3.0, 9.0, 9.0])), image)
    for outside in ([9.0, 9.0, 12.0, 12.0], [-9.0, -9.0, -5.0, -5.0]):
        assert crop(image, np.array(outside)).size == 1


def test_heat_is_dark_below_and_bright_above():
    low, middle, high = heat(np.array([[-1.0, 0.5, 2.0]]), 0, 1)[0].astype(int).sum(-1)
    assert low < 20 < middle < high
