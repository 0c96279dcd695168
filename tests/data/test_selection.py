"""Which images are trained on: without those that are empty, and a few of each class."""

from dataclasses import replace

import numpy as np
import pytest

from maskrcnn_jax.data.config import DataConfig
from maskrcnn_jax.data.federated import image_counts
from maskrcnn_jax.data.masks.segmentation import Polygons
from maskrcnn_jax.data.records import Instance, Record, make_record
from maskrcnn_jax.data.selection import select

KEEP_ALL = DataConfig()
SQUARE = Polygons([np.array([[1, 1], [5, 1], [5, 5], [1, 5]], float)])


def record_of(image_id, classes=(), crowd=()) -> Record:
    instances = [Instance((1, 1, 5, 5), c, c in crowd, SQUARE, 0, 16) for c in classes]
    return make_record(image_id, f"{image_id}.png", 20, 30, instances)


def images_with(records: list[Record], class_number: int) -> int:
    return sum(class_number in record.classes[~record.crowd] for record in records)


def mixed_records() -> list[Record]:
    """Class 1 in 60 of 80 images, 2 in 20, 3 in 6, all of these with 1; 20 without objects."""
    shown = [[1], [1], [1, 2], []] * 20
    for i in range(0, 24, 4):
        shown[i] = [1, 3, 3]
    return [record_of(i, classes) for i, classes in enumerate(shown)]


def test_images_of_each_class_are_counted_once_and_without_crowd_regions():
    assert image_counts(mixed_records(), 4) == (60, 20, 6, 0)
    assert image_counts([record_of(1, [1, 2], crowd=[2])], 2) == (1, 0)


def test_by_default_all_images_are_kept():
    records = mixed_records()
    assert select(records, KEEP_ALL) == records


def test_images_without_objects_are_dropped_and_so_are_those_of_crowd_regions_alone():
    records = [
        record_of("some", [1]),
        record_of("none"),
        record_of("crowd", [2], crowd=[2]),
        record_of("both", [1, 2], crowd=[2]),
    ]
    chosen = select(records, replace(KEEP_ALL, empty_images="drop"))
    assert [record.image_id for record in chosen] == ["some", "both"]
    with pytest.raises(
        ValueError, match=r"none of the 2 images .* config\.data\.empty_images=keep"
    ):
        select(records[1:3], replace(KEEP_ALL, empty_images="drop"))
    assert select([], replace(KEEP_ALL, empty_images="drop")) == []


@pytest.mark.parametrize("count", [1, 5, 10])
def test_each_class_is_in_so_many_images_or_in_all_it_has(count):
    records = mixed_records()
    chosen = select(records, replace(KEEP_ALL, images_per_class=count))
    assert [r.image_id for r in chosen] == sorted(r.image_id for r in chosen)
    # Class 1 comes with both others, so it needs no image of its own.
    assert images_with(chosen, 3) == min(count, 6)
    assert images_with(chosen, 2) == count
    assert images_with(chosen, 1) == count + min(count, 6)
    assert sum(len(record.classes) == 0 for record in chosen) == count
    chosen = select(records, replace(KEEP_ALL, images_per_class=count, empty_images="drop"))
    assert all(len(record.classes) for record in chosen)


def test_a_subset_follows_from_ids_and_its_seed_alone():
    records = mixed_records()
    few = replace(KEEP_ALL, images_per_class=4)
    chosen = {record.image_id for record in select(records, few)}
    assert {record.image_id for record in select(records[::-1], few)} == chosen
    assert {r.image_id for r in select(records, replace(few, subset_seed=1))} != chosen
    # The images of a class are those whose hashes come first, so another file changes little.
    more = [*records, record_of("another", [2])]
    assert len(chosen ^ {record.image_id for record in select(more, few)}) <= 2


def test_crowd_regions_do_not_make_an_image_one_of_their_class():
    records = [record_of("a", [1]), record_of("b", [1, 2], crowd=[2]), record_of("c", [2])]
    chosen = select(records, replace(KEEP_ALL, images_per_class=1))
    assert "c" in [record.image_id for record in chosen]
    assert len(chosen) == 2
