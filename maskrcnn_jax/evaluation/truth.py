"""A data set's annotations as the ground truth of a COCO evaluation."""

from collections.abc import Collection
from typing import Any

from maskrcnn_jax.data.coco_entries import annotation_entries, category_entries
from maskrcnn_jax.data.federated import Federated
from maskrcnn_jax.data.masks.segmentation import to_rle
from maskrcnn_jax.data.records import Dataset


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
        `categories`. Annotations are numbered from 1: pycocotools takes a match with
        annotation 0 for none. Where the data set is `federated`, images and categories have LVIS's
        keys, too.
    """
    wanted = None if image_ids is None else set(image_ids)
    records = [r for r in dataset.records if wanted is None or r.image_id in wanted]
    annotations = [
        entry
        for record in records
        for entry in annotation_entries(
            record, record.image_id, dataset.category_ids, to_rle, dataset.keypoints
        )
    ]
    for number, entry in enumerate(annotations, start=1):
        entry["id"] = number
    images = [{"id": r.image_id, "height": r.height, "width": r.width} for r in records]
    categories = category_entries(dataset)
    if dataset.federated:
        _add_federated(images, categories, dataset.federated)
    return {"images": images, "annotations": annotations, "categories": categories}


def _add_federated(
    images: list[dict[str, Any]], categories: list[dict[str, Any]], told: Federated
) -> None:
    for entry in images:
        entry["neg_category_ids"] = told.absent.get(entry["id"], [])
        entry["not_exhaustive_category_ids"] = told.incomplete.get(entry["id"], [])
    for entry in categories:
        entry["frequency"] = told.frequency[entry["id"]]
