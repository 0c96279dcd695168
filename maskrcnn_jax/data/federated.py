"""Which classes were looked for in which image: the keys that LVIS's files have besides COCO's.

Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation" (CVPR 2019), section 2.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from maskrcnn_jax.data.files.json_values import as_id, whole

if TYPE_CHECKING:
    from maskrcnn_jax.data.records import Record

FREQUENCIES = ("r", "c", "f")  # rare, common and frequent, by images of the training set


@dataclass(frozen=True)
class Federated:
    """Of which classes an image has no object, or not all objects marked; others may be anything.

    Attributes:
        absent: ids of the categories that an image does not show, by the image's id.
        incomplete: ids of the categories of which not every object is marked, likewise.
        frequency: "r", "c" or "f" by the category's id.
    """

    absent: Mapping[int | str, list[int]]
    incomplete: Mapping[int | str, list[int]]
    frequency: Mapping[int, str]


def read_federated(content: Mapping[str, list]) -> Federated | None:
    """Returns what a file in LVIS's format tells; None where it has not got these keys.

    Args:
        content: the file's.
    """
    categories = [entry for entry in content["categories"] if isinstance(entry, dict)]
    frequency = {whole(entry.get("id")): entry.get("frequency") for entry in categories}
    images = [entry for entry in content["images"] if isinstance(entry, dict)]
    if not set(frequency.values()) <= set(FREQUENCIES):
        return None
    if not any("neg_category_ids" in entry for entry in images):
        return None
    return Federated(
        absent=dict(_ids_of(images, "neg_category_ids")),
        incomplete=dict(_ids_of(images, "not_exhaustive_category_ids")),
        frequency={int(k): str(v) for k, v in frequency.items() if k is not None},
    )


def _ids_of(images: list[dict[str, Any]], key: str) -> Iterator[tuple[int | str, list[int]]]:
    for entry in images:
        image_id, listed = as_id(entry.get("id")), entry.get(key)
        if image_id is not None and isinstance(listed, list):
            yield image_id, [k for k in map(whole, listed) if k is not None]


def image_counts(records: Sequence["Record"], num_classes: int) -> tuple[int, ...]:
    """Returns how many images show each class, K numbers; crowd regions do not count.

    Args:
        records: of the images.
        num_classes: K.
    """
    counts = np.zeros(num_classes + 1, np.int64)
    for record in records:
        counts[np.unique(record.classes[~record.crowd])] += 1
    return tuple(counts[1:].tolist())
