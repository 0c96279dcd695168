"""A data set's annotations as the ground truth of a COCO evaluation."""

from collections.abc import Collection

from maskrcnn_jax.data.masks import segmentation
from maskrcnn_jax.data.records import Dataset, Record


def coco_truth(
    dataset: Dataset, image_ids: Collection[int | str] | None = None
) -> dict[str, list[dict[str, object]]]:
    """Writes a data set's annotations as a COCO dictionary, whatever format they came in.

    Args:
        dataset: the data set.
        image_ids: the images that were evaluated; None: all of them.

    Returns:
        `images`, `annotations` (with `area` as annotated, not measured, since that is what COCO
        sorts objects into small, medium and large by; run-length masks; crowds marked) and
        `categories`. Annotations are numbered anew from 1: pycocotools takes a match with
        annotation 0 for none.
    """
    wanted = None if image_ids is None else set(image_ids)
    records = [r for r in dataset.records if wanted is None or r.image_id in wanted]
    annotations = [entry for record in records for entry in _annotations(record, dataset)]
    for number, entry in enumerate(annotations, start=1):
        entry["id"] = number
    return {
        "images": [{"id": r.image_id, "height": r.height, "width": r.width} for r in records],
        "annotations": annotations,
        "categories": [
            {"id": int(category_id), "name": name}
            for category_id, name in zip(dataset.category_ids, dataset.class_names, strict=True)
        ],
    }


def _annotations(record: Record, dataset: Dataset) -> list[dict[str, object]]:
    entries = []
    for i, (x1, y1, x2, y2) in enumerate(record.boxes.tolist()):
        entries.append(
            {
                "image_id": record.image_id,
                "category_id": int(dataset.category_ids[record.classes[i] - 1]),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": float(record.areas[i]),
                "iscrowd": int(record.crowd[i]),
                "segmentation": segmentation.to_rle(
                    record.segmentations[i], record.height, record.width
                ),
            }
        )
    return entries
