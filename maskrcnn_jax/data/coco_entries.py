"""What COCO's format has of images, objects and categories: of datasets, and of detections."""

from collections.abc import Callable, Sequence
from typing import Any

from maskrcnn_jax.class_names import NO_CLASS
from maskrcnn_jax.data.masks.segmentation import Segmentation
from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.images.run_lengths import box_entry
from maskrcnn_jax.keypoint_set import KeypointSet, coco_keypoints, empty_keypoints


def category_entries(dataset: Dataset) -> list[dict[str, Any]]:
    """Returns `categories`: ids and names of a dataset's classes, in their order, and keypoints."""
    points = dataset.keypoints.coco_entry() if dataset.keypoints else {}
    return [
        {"id": int(category_id), "name": name, **points}
        for category_id, name in zip(dataset.category_ids, dataset.class_names, strict=True)
    ]


def annotation_entries(
    record: Record,
    image_id: int | str,
    category_ids: Sequence[int],
    shape_of: Callable[[Segmentation, int, int], Any],
    keypoints: KeypointSet | None = None,
) -> list[dict[str, Any]]:
    """Returns `annotations` of one image, with boxes and areas as the record has them.

    Args:
        record: the image.
        image_id: that it gets.
        category_ids: K ids; class k has id k - 1 of them. A crowd region of any class becomes one
            of each, since COCO's evaluation ignores within a category alone.
        shape_of: what becomes `segmentation`, of a mask and the image's height and width.
        keypoints: of the dataset; None: there are none.
    """
    points = [{}] * len(record.classes) if keypoints is None else _keypoints(record, keypoints)
    return [
        {
            "id": int(record.annotation_ids[i]),
            "image_id": image_id,
            "category_id": int(category_id),
            "bbox": box_entry(record.boxes[i]),
            "area": float(record.areas[i]),
            "iscrowd": int(record.crowd[i]),
            "segmentation": shape_of(segmentation, record.height, record.width),
            **points[i],
        }
        for i, segmentation in enumerate(record.segmentations)
        for category_id in _categories(record.classes[i], category_ids)
    ]


def _keypoints(record: Record, keypoints: KeypointSet) -> list[dict[str, Any]]:
    """Returns `keypoints` and `num_keypoints` of each instance."""
    known = record.keypoints
    if known is None:
        known = empty_keypoints(len(record.classes), len(keypoints.names))
    return [
        {"keypoints": coco_keypoints(points), "num_keypoints": int((points[:, 2] > 0).sum())}
        for points in known
    ]


def _categories(class_number: int, category_ids: Sequence[int]) -> Sequence[int]:
    return category_ids if class_number == NO_CLASS else [category_ids[class_number - 1]]


def text_runs(encoded: dict[str, Any]) -> dict[str, Any]:
    """Returns run lengths, {"size": [height, width], "counts": bytes}, with text for JSON."""
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}
