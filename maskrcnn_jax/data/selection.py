"""Which images of a dataset are trained on: all, those with objects, or a few of each class.

Neither key depends on the seed of the run, nor on the order of the images.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from maskrcnn_jax.data.config import DataConfig
from maskrcnn_jax.data.records import Record
from maskrcnn_jax.data.split import position

_NOTHING = 0  # the class of images without objects


def select(records: Sequence[Record], data: DataConfig) -> list[Record]:
    """Returns the records that are trained on, in their order.

    An image that shows only crowd regions counts as one without objects, as it does in Detectron2:
    there is nothing in it to find.

    Args:
        records: of a dataset.
        data: the configuration's `data` section: `empty_images`, `min_keypoints`,
            `images_per_class` and `subset_seed`.

    Raises:
        ValueError: a key has no such value, or images without objects are dropped and there are no
            others.
    """
    empty_images, count = data.empty_images, data.images_per_class
    chosen = list(records)
    if empty_images == "drop":
        chosen = [record for record in chosen if not record.crowd.all()]
        if records and not chosen:
            raise ValueError(
                f"none of the {len(records)} images shows an object; check the annotations, or "
                "set config.data.empty_images=keep"
            )
    if data.min_keypoints:
        chosen = [record for record in chosen if _known(record) >= data.min_keypoints]
        if records and not chosen:
            raise ValueError(
                f"none of the {len(records)} images has {data.min_keypoints} known keypoints; "
                "lower config.data.min_keypoints, or check config.model.keypoints.names"
            )
    return _balanced(chosen, count, data.subset_seed) if count else chosen


def _known(record: Record) -> int:
    """Returns how many keypoints of a record's single objects are known."""
    if record.keypoints is None:
        return 0
    return int((record.keypoints[~record.crowd, :, 2] > 0).sum())


def _balanced(records: list[Record], count: int, seed: int) -> list[Record]:
    """Returns images such that each class is in `count` of them, or in all that show it.

    The rarest class is served first, so that what common classes get with it is not chosen once
    more for them; by as much as that exceeds the count, a class is in more images than asked for.
    Within a class, the hash of its id says which image is next. Images without objects are treated
    as a class.
    """
    places = [position(str(record.image_id), seed) for record in records]
    images_of = defaultdict(list)
    for i in sorted(range(len(records)), key=places.__getitem__):
        for c in np.unique(records[i].classes[~records[i].crowd]).tolist() or [_NOTHING]:
            images_of[c].append(i)
    taken: set[int] = set()
    for c in sorted(images_of, key=lambda c: (len(images_of[c]), c)):
        left = [i for i in images_of[c] if i not in taken]
        missing = count - (len(images_of[c]) - len(left))
        taken.update(left[: max(missing, 0)])
    return [records[i] for i in sorted(taken)]
