import json
import re

import numpy as np
import pytest

from maskrcnn_jax.data import check
from maskrcnn_jax.data.formats import via
from maskrcnn_jax.data.read_options import ReadOptions

HALVES = [ReadOptions(split=split, val_fraction=0.5) for split in ("train", "val")]

POLYGON = dict(name="polygon", all_points_x=[10, 30, 30, 10], all_points_y=[5, 5, 25, 25])
RECT = dict(name="rect", x=10, y=5, width=20, height=20)


def region(shape=POLYGON, **attributes) -> dict:
    return dict(shape_attributes=shape, region_attributes=attributes)


@pytest.fixture
def write(tmp_path, write_picture):
    """Returns a function that writes the regions of images, by file name, as version 2 does."""

    def write_file(images, pictures=None, wrap=lambda entries: entries):
        for name in images if pictures is None else pictures:
            write_picture(f"balloon/{name}")
        entries = {
            f"{name}1234": dict(filename=name, size=1234, regions=regions, file_attributes={})
            for name, regions in images.items()
        }
        path = tmp_path / "balloon" / "via_region_data.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(wrap(entries)))
        return path.parent

    return write_file


def test_each_shape_with_an_inside_is_an_instance(write):
    shapes = [
        POLYGON,
        RECT,
        dict(name="circle", cx=30, cy=20, r=10),
        dict(name="ellipse", cx=30, cy=20, rx=20, ry=10),
        dict(name="ellipse", cx=30, cy=20, rx=15, ry=10, theta=np.pi / 2),
    ]
    dataset = via.read(write({"a.jpg": [region(s) for s in shapes], "b.jpg": []}))
    assert (dataset.name, dataset.class_names) == ("balloon", ("object",))
    assert dataset.faults == []
    record, empty = dataset.records
    assert (record.image_id, record.height, record.width) == ("a.jpg", 40, 60)
    expected = [
        [10, 5, 30, 25],
        [10, 5, 30, 25],
        [20, 10, 40, 30],
        [10, 10, 50, 30],
        [20, 5, 40, 35],
    ]
    np.testing.assert_allclose(record.boxes, expected, atol=0.1)
    areas = [400, 400, np.pi * 100, np.pi * 200, np.pi * 150]
    np.testing.assert_allclose(record.areas, areas, rtol=0.02)
    assert record.classes.tolist() == [1] * 5
    assert check.check(dataset) == []
    assert dataset.read_image(record).shape == (40, 60, 3)
    assert empty.boxes.shape == (0, 4)


def test_version_1_has_an_object_of_regions(write):
    folder = write({"a.jpg": {"0": region(), "1": region(RECT)}, "b.jpg": {}})
    records = via.read(folder, class_name="balloon").records
    assert [len(record.classes) for record in records] == [2, 0]


def test_project_has_the_same_beside_its_settings(write):
    folder = write(
        {"a.jpg": [region()]},
        wrap=lambda entries: {
            "_via_settings": {},
            "_via_img_metadata": entries,
            "_via_attributes": {"region": {}, "file": {}},
        },
    )
    (record,) = via.read(folder).records
    np.testing.assert_array_equal(record.boxes, [[10, 5, 30, 25]])


def test_class_is_that_of_an_attribute(write):
    folder = write(
        {
            "a.jpg": [region(kind="dog"), region(kind=" cat ")],
            "b.jpg": [region(kind={"cat": True, "dog": False}), region(kind={"cow": True})],
        }
    )
    dataset = via.read(folder, class_attribute="kind")
    assert dataset.class_names == ("cat", "cow", "dog")
    assert [record.classes.tolist() for record in dataset.records] == [[3, 1], [1, 2]]
    dataset = via.read(folder, class_attribute="kind", class_names=("dog", "cow", "cat"))
    assert [record.classes.tolist() for record in dataset.records] == [[1, 3], [3, 2]]


def test_images_are_divided_and_classes_are_those_of_all(write):
    folder = write({f"{i}.jpg": [region(kind=f"class {i}")] for i in range(8)})
    parts = [via.read(folder, class_attribute="kind", options=half) for half in HALVES]
    assert parts[0].class_names == parts[1].class_names == tuple(f"class {i}" for i in range(8))
    ids = [record.image_id for part in parts for record in part.records]
    assert sorted(ids) == [f"{i}.jpg" for i in range(8)]


@pytest.mark.parametrize(
    ("faulty", "reason"),
    [
        (region(POLYGON | dict(all_points_x=[1, 2, 3])), "not two lists of one length"),
        (region(POLYGON | dict(all_points_y=None)), "not two lists of one length"),
        (region(dict(name="polygon", all_points_x=[1, 9], all_points_y=[2, 9])), "has 2 corners"),
        (region(POLYGON | dict(all_points_y=[1, 2, 3, float("nan")])), "its points are"),
        (region(POLYGON | dict(all_points_y=[1, 2, 3, "4 px"])), "its points are"),
        (region(POLYGON | dict(all_points_x=[90, 95, 90, 95])), "covers no pixel"),
        (region(RECT | dict(width=0)), "has no area"),
        (region(RECT | dict(width="20 px")), "its rect has .*expected finite numbers"),
        (region(dict(name="circle", cx=1, cy=2)), "its circle has .*'r': None"),
        (region(dict(name="circle", cx=1, cy=2, r=0)), "it has radius 0"),
        (region(dict(name="point", cx=1, cy=2)), "its shape is 'point', which has no area"),
        (region(dict(POLYGON, name="polyline")), "its shape is 'polyline'"),
        (region(None, kind="cat"), "it has no shape_attributes"),
        ("region", "it has no shape_attributes"),
        (region(kind={"cat": True, "dog": True}), "expected one class as 'kind'"),
        (region(kind=""), "expected one class as 'kind'"),
        (region(sort="cat"), "expected one class as 'kind'"),
        (region(kind="cow"), r"its class 'cow' is not in class_names \(cat, dog\)"),
    ],
)
def test_faulty_region_is_left_out_or_ignored_and_named(write, faulty, reason):
    if isinstance(faulty, dict) and not faulty["region_attributes"]:
        faulty = faulty | dict(region_attributes=dict(kind="cat"))
    folder = write({"a.jpg": [region(kind="cat"), faulty, region(kind="dog")]})
    options = dict(class_attribute="kind", class_names=("cat", "dog"))
    dataset = via.read(folder, **options)
    (record,) = dataset.records
    assert record.classes[~record.crowd].tolist() == [1, 2]
    (fault,) = dataset.faults
    assert fault.where == f"{folder}/via_region_data.json: image a.jpg: region 2"
    assert re.search(reason, fault.reason)
    assert record.crowd.sum() == (fault.severity == "warning") == ("class" in fault.reason)
    assert fault.objects == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("b.jpg", "No such file"),
        ("../b.jpg", "leads out of"),
        ("/etc/passwd", "leads out of"),
        ("https://example.org/b.jpg", "leads out of"),
    ],
)
def test_image_that_cannot_be_read_is_left_out_and_named(write, name, reason):
    folder = write({"a.jpg": [region()], name: [region()]}, pictures=["a.jpg"])
    dataset = via.read(folder)
    assert [record.image_id for record in dataset.records] == ["a.jpg"]
    (fault,) = dataset.faults
    assert fault.image_id == name
    with pytest.raises(ValueError, match=reason):
        via.read(folder, options=ReadOptions(on_error="raise"))


def test_faulty_entries_are_named(write):
    def add(entries):
        twice = {"twice": entries["a.jpg1234"]}
        return entries | twice | {"none": 5, "x": {"filename": "b.jpg", "regions": "y"}}

    dataset = via.read(write({"a.jpg": [region()]}, wrap=add))
    assert len(dataset.records) == 1
    found = "\n".join(map(str, dataset.faults))
    for part in ("entry twice: an earlier entry", "none: its filename is None", "x: its regions"):
        assert part in found


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not a JSON file"),
        ("[]", "holds a list"),
        ('{"images": [], "annotations": []}', "holds .*neither COCO nor CSV"),
        ('{"project": {}, "config": {}, "metadata": {}, "view": {}}', "is of version 3"),
        ('{"a": {"filename": "", "regions": []}}', "has no usable image"),
    ],
)
def test_file_that_is_not_in_the_format(tmp_path, content, reason):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match=rf"x\.json.*{reason}"):
        via.read(tmp_path, "x.json")


def test_attribute_that_no_region_has_is_explained(tmp_path):
    (tmp_path / "x.json").write_text('{"a": {"filename": "a.jpg", "regions": []}}')
    with pytest.raises(ValueError, match="no class"):
        via.read(tmp_path, "x.json", class_attribute="kind")


def test_several_classes_read_as_one_are_told_with_the_argument(write):
    regions = [region(class_ids="Circle", note="a"), region(class_ids="Rectangle", note="a")]
    folder = write({"a.jpg": regions})
    dataset = via.read(folder)
    assert dataset.class_names == ("object",)
    (fault,) = dataset.faults
    assert fault.severity == "warning"
    assert "2 values of 'class_ids' (Circle, Rectangle)" in fault.reason
    assert "give class_attribute='class_ids'" in fault.reason
    dataset = via.read(folder, class_attribute="class_ids")
    assert dataset.class_names == ("Circle", "Rectangle")
    assert dataset.faults == []


def test_numbers_are_read_however_they_are_written(write):
    shape = dict(name="rect", x="10", y=5.0, width="20", height="20.0")
    folder = write({"a.jpg": [region(shape, kind=3), region(kind="3")]})
    dataset = via.read(folder, class_attribute="kind")
    assert dataset.faults == []
    assert dataset.class_names == ("3",)
    np.testing.assert_array_equal(dataset.records[0].boxes[0], [10, 5, 30, 25])
