import dataclasses
import re
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from maskrcnn_jax.config import get_config
from maskrcnn_jax.data import datasets
from maskrcnn_jax.data.config import DataConfig


@pytest.fixture
def config_data() -> DataConfig:
    data = get_config().data
    data.format = "shapes"
    data.train = ConfigDict(dict(count=3, seed=0))
    data.val = ConfigDict(dict(count=2, seed=1))
    return data


def test_each_split_has_its_own_arguments(config_data):
    assert len(datasets.load(config_data, "train").records) == 3
    assert len(datasets.load(config_data, "val").records) == 2


def test_common_keys_reach_the_reader(config_data, write_coco):
    config_data.format = "coco"
    paths = write_coco([dict(image_id=5)])
    config_data.train = ConfigDict({key: str(path) for key, path in paths.items()})
    config_data.max_pixels = 2399
    dataset = datasets.load(config_data, "train")
    assert "more than the 2399" in dataset.faults[0].reason
    config_data.max_pixels = 2400
    config_data.on_error = "raise"
    with pytest.raises(ValueError, match="image_id 5"):
        datasets.load(config_data, "train")
    config_data.on_error = "ignore"
    with pytest.raises(ValueError, match="on_error is 'ignore'"):
        datasets.load(config_data, "train")


def test_wrong_configurations_are_explained(config_data):
    with pytest.raises(ValueError, match="split is 'test'"):
        datasets.load(config_data, "test")
    config_data.train = ConfigDict(dict(cuont=3, seed=0))
    with pytest.raises(
        ValueError, match=r"missing: \['count'\]; unknown: \['cuont'\].*'max_objects'"
    ):
        datasets.load(config_data, "train")
    config_data.format = "voc2012"
    with pytest.raises(ValueError, match=r"data.format is 'voc2012'; expected one of \['coco'"):
        datasets.load(config_data, "train")


def test_what_a_reader_refuses_names_the_key(config_data, tmp_path):
    config_data.format = "coco"
    config_data.val = ConfigDict(dict(root=f"{tmp_path}/none", images="a", annotations="b"))
    with pytest.raises(ValueError, match=r"data\.val: root is '.*none', which does not exist"):
        datasets.load(config_data, "val")
    config_data.val.root = str(tmp_path)
    with pytest.raises(ValueError, match=r"data\.val: images is '.*a', which does not exist"):
        datasets.load(config_data, "val")


def test_every_format_is_named_where_users_look():
    root = Path(__file__).resolve().parents[2]
    (comment,) = (
        field.metadata["meaning"]
        for field in dataclasses.fields(DataConfig)
        if field.name == "format"
    )
    index = (root / "docs/formats/README.md").read_text()
    for form in datasets.READERS:
        assert re.search(rf"\b{form}\b", comment)
        assert f"`{form}`" in index
        page = (root / f"docs/formats/{form}.md").read_text()
        missing = [name for name in datasets.arguments_of(form) if f"`{name}`" not in page]
        assert set(missing) <= {"on_error", "max_pixels", "boxes_as_masks"}  # keys of the recipe


def test_boxes_of_masks_and_fewer_images_are_for_training_alone(config_data, write_coco):
    config_data.format = "coco"
    images = [dict(id=i, file_name=f"{i}.png", height=40, width=60) for i in (7, 8)]
    paths = write_coco([dict(bbox=[8, 4, 25, 22])], images)
    for split in ("train", "val"):
        setattr(config_data, split, ConfigDict({key: str(path) for key, path in paths.items()}))
    assert len(datasets.load(config_data, "train").records) == 2
    config_data.empty_images, config_data.boxes = "drop", "masks"
    train, val = (datasets.load(config_data, split) for split in ("train", "val"))
    assert [record.image_id for record in train.records] == [7]
    assert train.records[0].boxes.tolist() == [[10, 5, 30, 25]]
    assert [record.image_id for record in val.records] == [7, 8]
    assert val.records[0].boxes.tolist() == [[8, 4, 33, 26]]
    config_data.boxes = "mask"
    with pytest.raises(ValueError, match=r"data.boxes is 'mask'; expected annotation"):
        datasets.load(config_data, "train")
