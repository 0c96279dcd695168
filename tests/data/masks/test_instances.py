import numpy as np
import pytest

from maskrcnn_jax.data.masks.instances import (
    class_number,
    class_numbers,
    encode,
    instance,
    mask_instance,
    union,
)
from maskrcnn_jax.data.masks.outlines import rectangle
from maskrcnn_jax.data.masks.segmentation import RLE, MaskFile, Polygons, to_mask

BLOCK = np.zeros((40, 60), np.uint8)
BLOCK[5:25, 10:30] = 1


def test_box_and_area_of_each_kind_of_mask(tmp_path, write_picture):
    path = str(write_picture("mask.png", BLOCK * 255))
    for mask in (Polygons([rectangle(10, 5, 30, 25)]), encode(BLOCK), MaskFile(path)):
        found = instance(mask, 3, 40, 60)
        assert found.box == (10, 5, 30, 25)
        assert (found.class_number, found.crowd, found.annotation_id, found.area) == (
            3,
            False,
            0,
            400,
        )
        assert found.segmentation is mask
    assert mask_instance(BLOCK, 3, 40, 60)[0] == (10, 5, 30, 25)
    assert instance(encode(BLOCK), 1, 40, 60, crowd=True)[2] is True


def test_box_of_polygons_keeps_fractions_and_ends_at_the_border():
    warnings = []
    outline = Polygons([rectangle(10.25, 5.5, 20, 25), rectangle(40, -0.5, 60.5, 3)])
    assert instance(outline, 1, 40, 60, warnings=warnings)[0] == (10.25, 0, 60, 25)
    assert warnings == []
    outline = Polygons([rectangle(50, 5, 70, 25)])
    found = instance(outline, 1, 40, 60, warnings=warnings)
    assert found.box == (50, 5, 60, 25)
    assert found.area == 200
    assert "leaves its image of 40 x 60: clipped" in str(warnings[0])


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (Polygons([rectangle(100, 5, 120, 25)]), "covers no pixel"),
        (Polygons([rectangle(10.0, 5, 10.01, 5.01)]), "covers no pixel"),
        (Polygons([rectangle(10, 5, 1e8, 25)]), "far out of its image"),
        (encode(np.zeros((40, 60))), "covers no pixel"),
        (encode(BLOCK.T), "is 60 x 40"),
    ],
)
def test_mask_that_cannot_be_used_is_refused(mask, reason):
    with pytest.raises(ValueError, match=reason):
        instance(mask, 1, 40, 60)


def test_parts_are_joined():
    left, right = rectangle(10, 5, 20, 25), rectangle(20, 5, 30, 25)
    assert isinstance(union([left, right], 40, 60), Polygons)
    half = BLOCK.copy()
    half[:, 20:] = 0
    mixed = union([encode(half), right], 40, 60)
    assert isinstance(mixed, RLE)
    for mask in (mixed, union([left, right], 40, 60)):
        np.testing.assert_array_equal(to_mask(mask, 40, 60), BLOCK)


def test_classes_are_numbered_in_the_order_given_or_by_name():
    assert class_numbers(["dog", "cat"]) == {"dog": 1, "cat": 2}
    assert class_numbers((), ["dog", "cat", "dog"]) == {"cat": 1, "dog": 2}
    assert class_number("dog", {"cat": 1, "dog": 2}) == 2
    for name in ("cow", "", None, ["cat"]):
        with pytest.raises(ValueError, match=r"is not in class_names \(cat, dog\)"):
            class_number(name, {"cat": 1, "dog": 2})


@pytest.mark.parametrize(
    ("given", "found", "reason"),
    [
        ((), (), "no class"),
        ("cat", (), r"expected a list, \('cat',\)"),
        (["cat", "cat"], (), "has 'cat'; expected names, each once"),
        (["cat", ""], (), "has ''"),
        (["cat", 1], (), "has 1"),
    ],
)
def test_class_names_that_are_none_are_refused(given, found, reason):
    with pytest.raises(ValueError, match=reason):
        class_numbers(given, found)
