from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from maskrcnn_jax.data.formats import coco, shapes
from maskrcnn_jax.data.masks.segmentation import MaskFile, Polygons, to_mask
from maskrcnn_jax.data.tools import audit

SQUARE = np.array([(10, 5), (30, 5), (30, 25), (10, 25)], np.float64)


def pentagram() -> np.ndarray:
    angles = np.arange(5) * 2 * 2 * np.pi / 5
    return 20 + 15 * np.stack([np.cos(angles), np.sin(angles)], 1)


@pytest.mark.parametrize(
    ("corners", "point"),
    [
        (SQUARE, None),
        (SQUARE[[0, 2, 1, 3]], (20, 15)),  # a bow tie
        (SQUARE[[0, 1, 2, 3, 0, 1, 2, 3]], None),  # drawn twice: edges on top of each other
        # A hole, reached by a bridge that is gone over twice; a corner on another edge.
        (np.array([(0, 0), (9, 0), (9, 9), (0, 9), (0, 0), (3, 3), (3, 6), (6, 3), (3, 3)]), None),
        (np.array([(0, 0), (10, 0), (10, 10), (5, 0), (0, 10)]), None),
        (SQUARE[:2], None),
        (np.tile(SQUARE[0], (4, 1)), None),
    ],
)
def test_where_an_outline_crosses_itself(corners, point):
    found = audit.crossing(np.asarray(corners, np.float64))
    if point is None:
        assert found is None
    else:
        np.testing.assert_allclose(found, point)


def test_crossings_are_found_among_many_edges():
    angles = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    circle = 100 * np.stack([np.cos(angles), np.sin(angles)], 1)
    assert audit.crossing(circle) is None
    circle[[2000, 2001]] = circle[[2001, 2000]]
    x, y = audit.crossing(circle)
    assert np.hypot(x, y) == pytest.approx(100, abs=0.01)
    assert np.hypot(*(circle[2000] - (x, y))) < 1


def test_what_an_outline_goes_around_twice_is_outside():
    """The reason that is given for the warning."""
    assert audit.crossing(pentagram()) is not None
    mask = to_mask(Polygons([pentagram()]), 40, 40)
    assert mask[20, 20] == 0
    assert mask[20, 32] == 1


def reasons(dataset, **options) -> list[str]:
    faults = audit.audit({"train": dataset}, 10**8, **options)["train"]
    return [f"{f.severity}: {f.reason}" for f in faults if "no instance of" not in f.reason]


def test_masks_without_a_pixel_and_twins(write_coco):
    outside = [[70, 50, 80, 50, 80, 60]]
    line = [[10, 5, 20, 15, 30, 25], [10, 5, 30, 5, 30, 25]]
    annotations = [
        {},
        dict(segmentation=outside),
        dict(segmentation=line),
        {},
        dict(category_id=90),
        dict(segmentation=dict(size=[40, 60], counts=[205, 20, 2175]), bbox=[5, 5, 1, 20]),
        dict(segmentation=dict(size=[40, 60], counts=[205, 20, 2175]), bbox=[5, 5, 1, 20]),
    ]
    first, *others = reasons(coco.read(**write_coco(annotations)))
    assert "hardly agree" in first
    assert others == [
        "warning: its mask covers no pixel of the image; a mask without any is learned",
        "warning: a polygon of 3 corners lies on one line; it has no area",
        "warning: it has class, box and mask of annotation 100",
        "warning: it has class, box and mask of annotation 105",
    ]


def test_mask_files_that_cannot_be_read_are_named(write_coco, tmp_path):
    dataset = coco.read(**write_coco([{}]))
    (record,) = dataset.records
    gone = replace(record, segmentations=[MaskFile(str(tmp_path / "gone.png"))])
    (reason,) = reasons(replace(dataset, records=[gone]))
    assert "gone.png" in reason


def test_the_same_image_in_two_splits(write_coco, tmp_path):
    images = [dict(id=i, file_name=f"{i}.png", height=40, width=60) for i in range(4)]
    paths = write_coco([dict(image_id=0)], images)
    for i in range(4):
        Image.new("L", (60, 40), 128 + i % 2).save(paths["images"] / f"{i}.png")
    dataset = coco.read(**paths)
    train, val = replace(dataset, records=dataset.records[:2]), dataset
    val = replace(val, records=[replace(r, image_id=f"v{r.image_id}") for r in val.records[1:]])
    faults = audit.twin_images({"train": train, "val": val})
    assert faults["train"] == []
    folder = paths["images"]
    assert [(f.where, f.reason) for f in faults["val"]] == [
        (f"{folder}/1.png: image v1", f"it is the same file as image 1 of train ({folder}/1.png)"),
        (
            f"{folder}/2.png: image v2",
            f"it has the same bytes as image 0 of train ({folder}/0.png)",
        ),
        (
            f"{folder}/3.png: image v3",
            f"it has the same bytes as image 1 of train ({folder}/1.png)",
        ),
    ]
    assert {f.severity for f in faults["val"]} == {"warning"}


def test_splits_of_other_classes_are_an_error():
    train = shapes.read(count=20, seed=0)
    val = replace(train, class_names=("circle", "triangle", "rectangle"))
    faults = audit.audit({"train": train, "val": val}, 10**8)
    assert faults["train"] == []
    (fault,) = faults["val"]
    assert fault.severity == "error"
    assert fault.kind == "splits of other classes"


def test_json_of_faults(write_coco):
    dataset = coco.read(**write_coco([{}, dict(image_id=5), dict(image_id=6)]))
    faults = audit.audit({"train": dataset}, 10**8)["train"]
    content = audit.as_json(dataset, faults)
    assert (content["images"], content["instances"]) == (1, 1)
    assert (content["errors"], content["warnings"]) == (2, 1)
    assert content["kinds"] == {"unknown image": 2, "class without objects": 1}
    first = content["faults"][0]
    assert first["file"].endswith("instances.json")
    assert first["part"] == "annotation 101"
    assert first["kind"] == "unknown image"
    assert first["severity"] == "error"
    assert "image_id 5" in first["reason"]
