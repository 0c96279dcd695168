"""From a batch of detections in network pixels to an image's result."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from maskrcnn_jax.data.formats import labelme
from maskrcnn_jax.data.masks.segmentation import to_rle
from maskrcnn_jax.images.paste import MaskCrop
from maskrcnn_jax.images.pixels import RGB8
from maskrcnn_jax.inference.result import Result, to_result
from maskrcnn_jax.inference.source_image import SourceImage
from maskrcnn_jax.inference.tiles import merge_tiles
from maskrcnn_jax.models.detections import Detections
from maskrcnn_jax.visualization.overlay import draw_result
from maskrcnn_jax.visualization.style import Style


def _detections() -> Detections:
    boxes = np.zeros((2, 3, 4), np.float32)
    boxes[1] = [[10, 20, 30, 60], [0, 0, 101, 51], [1e30, np.nan, 0, 0]]
    masks = np.zeros((2, 3, 28, 28), np.float32)
    masks[1, :2] = 1
    return Detections(
        boxes=boxes,
        scores=np.array([[0, 0, 0], [0.9, 0.4, np.nan]], np.float32),
        classes=np.array([[0, 0, 0], [2, 1, 0]], np.int32),
        masks=masks,
        valid=np.array([[False] * 3, [True, True, False]]),
    )


def test_boxes_go_back_by_the_true_ratio_and_are_clipped():
    result = to_result(_detections(), 1, np.array([50, 100]), np.array([100, 300]), ("a", "b"))
    # x by 300 / 100, y by 100 / 50; the second box is cut off at the image's right and bottom.
    np.testing.assert_allclose(result.boxes, [[30, 40, 90, 100], [0, 0, 300, 100]])
    assert result.class_names == ("b", "a")
    assert result.classes.tolist() == [2, 1]
    assert result.masks.shape == (2, 100, 300)
    assert result.masks.dtype == bool
    assert result.masks[0, 45:95, 35:85].all()
    assert not result.masks[0, :38].any()
    assert result.masks[1].mean() > 0.95


def test_invalid_slots_and_low_scores_are_left_out():
    sizes = np.array([50, 100]), np.array([100, 300])
    assert len(to_result(_detections(), 0, *sizes, ("a", "b"))) == 0
    assert len(to_result(_detections(), 1, *sizes, ("a", "b"))) == 2
    best = to_result(_detections(), 1, *sizes, ("a", "b"), min_score=0.5)
    assert best.class_names == ("b",)
    nothing = to_result(_detections(), 1, *sizes, ("a", "b"), min_score=0.95)
    assert nothing.masks.shape == (0, 100, 300)
    assert nothing.boxes.shape == (0, 4)


def _disc(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return x**2 + y**2 <= radius**2


@pytest.fixture
def result() -> Result:
    """A disc, a square that is apart in two, and a single pixel."""
    two = np.ones((10, 21), bool)
    two[:, 10] = False
    return Result(
        boxes=np.array([[5, 10, 46, 51], [60, 70, 81, 80], [90, 3, 91, 4]], np.float32),
        scores=np.array([0.9, 0.75, 0.25], np.float32),
        classes=np.array([2, 1, 2], np.int32),
        class_names=("b", "a", "b"),
        crops=(MaskCrop(_disc(20), 10, 5), MaskCrop(two, 70, 60), MaskCrop(_disc(0), 3, 90)),
        height=90,
        width=100,
    )


@pytest.fixture
def boxes_alone() -> Result:
    found = _detections()._replace(masks=None)
    return to_result(found, 1, np.array([50, 100]), np.array([100, 300]), ("a", "b"))


def test_boxes_alone_have_no_masks_anywhere(boxes_alone, tmp_path):
    assert [found.mask for found in boxes_alone] == [None, None]
    assert boxes_alone.areas.tolist() == [60 * 60, 300 * 100]
    assert len(boxes_alone.filter(area=(0, 4000))) == 1
    with pytest.raises(ValueError, match="boxes alone"):
        boxes_alone.masks  # noqa: B018  made when asked for
    assert [set(entry) for entry in boxes_alone.to_coco()] == [
        {"image_id", "category_id", "bbox", "score", "class_name"}
    ] * 2
    shape = boxes_alone.to_labelme("a.jpg")["shapes"][0]
    assert shape["shape_type"] == "rectangle"
    assert shape["points"] == [[30, 40], [90, 100]]


def test_boxes_alone_are_drawn_as_such(boxes_alone):
    image = np.full((100, 300, 3), 40, np.uint8)
    style = Style(masks=True, boxes=False, names=False, scores=False)
    picture, scale = draw_result(image, boxes_alone, style=style), 3
    assert (picture[70 * scale, 60 * scale] == 40).all()  # inside: no tint
    assert (picture[70 * scale, 30 * scale] != 40).any()  # the left side


def test_boxes_alone_of_tiles_are_joined(boxes_alone):
    joined = merge_tiles([boxes_alone, boxes_alone], [(0, 0, 300, 100), (0, 0, 300, 100)], 100, 300)
    np.testing.assert_allclose(joined.boxes, boxes_alone.boxes)
    assert not joined.has_masks


def test_iterating_gives_objects(result):
    objects = list(result)
    assert [found.class_name for found in objects] == ["b", "a", "b"]
    assert [round(found.score, 2) for found in objects] == [0.9, 0.75, 0.25]
    for found, box, mask in zip(objects, result.boxes, result.masks, strict=True):
        np.testing.assert_array_equal(found.box, box)
        np.testing.assert_array_equal(found.mask, mask)


def test_filter(result):
    def kept(**wanted):
        return [round(found.score, 2) for found in result.filter(**wanted)]

    assert kept() == kept(score=0.25) == [0.9, 0.75, 0.25]
    assert kept(score=0.5) == [0.9, 0.75]
    assert kept(classes="b") == kept(classes=[2]) == [0.9, 0.25]
    assert kept(classes=("a", 2)) == [0.9, 0.75, 0.25]
    assert kept(classes=()) == kept(classes="c") == []
    assert kept(area=(1, 200)) == [0.75, 0.25]
    assert kept(area=(200, np.inf)) == [0.9, 0.75]
    assert kept(score=0.5, classes="b", area=(2, 1e9)) == [0.9]
    assert len(result.filter(score=2).filter(classes="b")) == 0
    with pytest.raises(ValueError, match="area is 5"):
        result.filter(area=5)


def test_drawn_over_the_image_given_or_known(result, tmp_path):
    image = np.full((90, 100, 3), 40, np.uint8)
    expected = draw_result(image, result)
    np.testing.assert_array_equal(result.draw(image), expected)
    known = replace(result, source=SourceImage(image, RGB8, 10**6))
    np.testing.assert_array_equal(known.draw(), expected)
    known.save(tmp_path / "new" / "a.png")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "new/a.png"))[..., ::-1], expected)
    known.save(tmp_path / "a.jpg")
    assert Image.open(tmp_path / "a.jpg").format == "JPEG"
    with pytest.raises(ValueError, match="does not know its image"):
        result.draw()
    with pytest.raises(ValueError, match="10 x 100 pixels"):
        result.draw(image[:10])
    with pytest.raises(ValueError, match=r"a\.txt: give a name that ends in"):
        known.save(tmp_path / "a.txt")


def test_results_of_coco(result):
    entries = json.loads(json.dumps(result.to_coco("x")))
    assert [entry["class_name"] for entry in entries] == ["b", "a", "b"]
    assert [entry["category_id"] for entry in entries] == [2, 1, 2]
    assert entries[1]["bbox"] == [60, 70, 21, 10]
    for entry, mask in zip(entries, result.masks, strict=True):
        np.testing.assert_array_equal(coco_mask.decode(entry["segmentation"]), mask)
    ids = [entry["category_id"] for entry in replace(result, category_ids=(7, 9)).to_coco()]
    assert ids == [9, 7, 9]
    assert result.filter(score=1).to_coco() == []


def test_labelme_files_read_back_as_the_same_objects(result, tmp_path):
    path = tmp_path / "images" / "a.png"
    path.parent.mkdir()
    Image.new("RGB", (100, 90)).save(path)
    with pytest.raises(ValueError, match="image_path="):
        result.save(tmp_path / "a.json")
    known = replace(result, source=SourceImage(path, RGB8, 10**6))
    assert known.to_labelme()["imagePath"] == "a.png"
    known.save(tmp_path / "labels" / "a.json")
    dataset = labelme.read(tmp_path, class_names=("a", "b"))
    (record,) = dataset.records
    assert dataset.faults == []
    assert record.path.endswith("images/a.png")
    assert record.classes.tolist() == [2, 1, 2]
    for segmentation, mask in zip(record.segmentations, result.masks, strict=True):
        read = coco_mask.decode(to_rle(segmentation, 90, 100)).astype(bool)
        assert (read & mask).sum() / (read | mask).sum() > 0.98
