"""Detections as entries of a COCO results file."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from maskrcnn_jax.images.run_lengths import box_entry, crop_to_rle
from maskrcnn_jax.keypoint_set import coco_keypoints

if TYPE_CHECKING:
    from maskrcnn_jax.inference.result import Result


def coco_results(
    result: "Result", image_id: int | str, category_ids: Sequence[int]
) -> list[dict[str, object]]:
    """Writes one image's detections in COCO's results format.

    Args:
        result: the detections of the image.
        image_id: as the data set names it.
        category_ids: K ids; class k has id k - 1 of them.

    Returns:
        A dict per detection: `image_id`, `category_id`, `bbox` (x, y, width, height in pixels),
        `score`, `segmentation` (run lengths, `counts` as text; not of a model of boxes alone),
        `mask_score` of a model that scores masks (which COCO knows as the `score` of masks) and
        `keypoints` of a model that finds such (x, y, score of each in a row, x and y less half a
        pixel, since COCO's name pixels), ready for `json.dump`.
    """
    entries: list[dict[str, object]] = []
    for box, score, label in zip(result.boxes, result.scores, result.classes, strict=True):
        entries.append(
            {
                "image_id": image_id,
                "category_id": int(category_ids[label - 1]),
                "bbox": box_entry(box),
                "score": float(score),
            }
        )
    if result.has_masks:
        for entry, crop in zip(entries, result.crops, strict=True):
            entry["segmentation"] = crop_to_rle(crop, result.height, result.width)
    if result.mask_scores is not None:
        for entry, score in zip(entries, result.mask_scores, strict=True):
            entry["mask_score"] = float(score)
    if result.keypoints is not None:
        for entry, points in zip(entries, result.keypoints, strict=True):
            entry["keypoints"] = coco_keypoints(points)
    return entries
