"""Detections as entries of a COCO results file."""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from maskrcnn_jax.data.coco_entries import box_entry, text_runs
from maskrcnn_jax.images.paste import MaskCrop
from maskrcnn_jax.inference.result import Result


def coco_results(
    result: Result, image_id: int | str, category_ids: Sequence[int]
) -> list[dict[str, object]]:
    """Writes one image's detections in COCO's results format.

    Args:
        result: the detections of the image.
        image_id: as the data set names it.
        category_ids: K ids; class k has id k - 1 of them.

    Returns:
        A dict per detection: `image_id`, `category_id`, `bbox` (x, y, width, height in pixels),
        `score`, `segmentation` (run lengths, `counts` as text), ready for `json.dump`.
    """
    entries: list[dict[str, object]] = []
    for box, score, label, crop in zip(
        result.boxes, result.scores, result.classes, result.crops, strict=True
    ):
        entries.append(
            {
                "image_id": image_id,
                "category_id": int(category_ids[label - 1]),
                "bbox": box_entry(box),
                "score": float(score),
                "segmentation": text_runs(crop_to_rle(crop, result.height, result.width)),
            }
        )
    return entries


def crop_to_rle(crop: MaskCrop, height: int, width: int) -> dict[str, object]:
    """Encodes a mask by run lengths from its crop alone, without a bitmap of the whole image.

    Runs go down the columns. Only the crop's own columns are written out at full height; the
    columns left and right of them merely lengthen the first and the last run of zeros.

    Args:
        crop: the mask.
        height: of the image, pixels.
        width: of the image, pixels.

    Returns:
        `{"size": [height, width], "counts": bytes}`, as `pycocotools.mask.encode` of the whole.
    """
    rows, columns = crop.mask.shape
    strip = np.zeros((columns, height), bool)
    strip[:, crop.y : crop.y + rows] = crop.mask.T
    bordered = np.concatenate([[False], strip.ravel(), [False]])
    changes = np.flatnonzero(bordered[1:] != bordered[:-1]) + crop.x * height
    counts = np.diff(np.concatenate([[0], changes, [height * width]])).tolist()
    if counts[-1] == 0:  # the object holds the image's last pixel
        counts.pop()
    return coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
