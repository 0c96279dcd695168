import numpy as np
import pytest
from ml_collections import ConfigDict

from maskrcnn_jax.config import get_config
from maskrcnn_jax.data import check, datasets
from maskrcnn_jax.data.formats import coco, shapes
from maskrcnn_jax.data.masks.segmentation import to_mask
from maskrcnn_jax.data.union import union


@pytest.fixture
def pets(write_coco):
    """Image 7 with a cat, a dog and a crowd of cats; and a faulty annotation and image."""
    images = [dict(id=7, file_name="a.png", height=40, width=60), dict(id=8)]
    annotations = [{}, dict(category_id=90), dict(iscrowd=1), dict(image_id=5)]
    write_coco()  # writes a.png
    return coco.read(**write_coco(annotations, images))


def test_classes_are_merged_by_name(pets):
    generated = shapes.read(count=2, seed=0)
    both = union({"shapes": generated, "pets": pets}, rename={"circle": "cat", "dog": "Dog"})
    assert both.name == f"{generated.name}+{pets.name}"
    assert both.class_names == ("cat", "rectangle", "triangle", "Dog")
    assert both.category_ids == (1, 2, 3, 4)
    assert [record.image_id for record in both.records] == ["shapes/0", "shapes/1", "pets/7"]
    *drawn, photo = both.records
    for record, original in zip(drawn, generated.records, strict=True):
        np.testing.assert_array_equal(record.classes, original.classes)
        np.testing.assert_array_equal(both.read_image(record), generated.read_image(original))
    assert photo.classes.tolist() == [1, 4, 1]
    assert photo.crowd.tolist() == [False, False, True]
    np.testing.assert_array_equal(photo.boxes, pets.records[0].boxes)
    assert both.read_image(photo).shape == (40, 60, 3)
    ids = np.concatenate([record.annotation_ids for record in both.records])
    assert ids.tolist() == [*range(1, len(ids) + 1)]
    assert [fault.reason for fault in both.faults] == [fault.reason for fault in pets.faults]


def test_other_classes_are_left_out(pets):
    dataset = union({"pets": pets}, class_names=("bird", "dog"))
    assert dataset.class_names == ("bird", "dog")
    (record,) = dataset.records
    assert record.classes.tolist() == [2]
    assert record.boxes.shape == (1, 4)
    assert to_mask(record.segmentations[0], 40, 60).sum() == record.areas[0] == 400
    (empty,) = union({"pets": pets}, class_names=("bird",)).records
    assert empty.boxes.shape == (0, 4)


def test_faulty_images_are_left_out_by_their_new_names(write_coco):
    images = [dict(id=i, file_name=f"{i}.png", height=40, width=60) for i in (7, 8)]
    broken = coco.read(**write_coco([{}], images))
    faults = check.check(broken)
    broken.faults = [fault for fault in faults if fault.image_id == 7]
    dataset = union({"a": broken, "b": broken})
    kept = check.drop_faulty(dataset, dataset.faults).records
    assert [record.image_id for record in kept] == ["a/8", "b/8"]


def test_unions_without_sense_are_refused(pets):
    with pytest.raises(ValueError, match="at least one part"):
        union({})
    with pytest.raises(ValueError, match=r"rename has \['cow'\]; .* \['cat', 'dog'\]"):
        union({"pets": pets}, rename={"cow": "cat"})


def test_parts_are_read_as_the_configuration_says():
    data = get_config().data
    data.format = "union"
    parts = {n: dict(format="shapes", count=c, seed=c) for n, c in (("one", 1), ("two", 2))}
    data.train = ConfigDict(dict(parts=parts, rename={"circle": "disc"}))
    data.val = ConfigDict(dict(parts=dict(one=dict(parts["one"])), class_names=("triangle",)))
    train, val = (datasets.load(data, split) for split in ("train", "val"))
    assert train.class_names == ("disc", "rectangle", "triangle")
    assert [record.image_id for record in train.records] == ["one/0", "two/0", "two/1"]
    assert val.class_names == ("triangle",)
    data.train.parts.two.format = "voc2012"
    with pytest.raises(ValueError, match=r"parts\.two\.format is 'voc2012'; expected one of"):
        datasets.load(data, "train")
    del data.train.parts.two.format
    with pytest.raises(ValueError, match=r"parts\.two\.format is ''"):
        datasets.load(data, "train")
    data.train.parts.two = ConfigDict(dict(format="shapes", cuont=3, seed=0))
    with pytest.raises(ValueError, match=r"parts\.two has keys .*missing: \['count'\]"):
        datasets.load(data, "train")
