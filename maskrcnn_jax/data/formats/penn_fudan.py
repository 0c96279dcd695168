"""The reader of PennFudan's layout: `PNGImages/<id>.png` beside `PedMasks/<id>_mask.png`.

Each mask file has the instances of one image: 0 is background, every other number one instance.
Any dataset of one class that is kept in this way can be read.

Source: Wang et al., "Object Detection Combining Recognition and Segmentation", ACCV 2007.
"""

import os
from pathlib import Path

import numpy as np

from maskrcnn_jax.data.faults import fault_of
from maskrcnn_jax.data.files.paths import by_stem, existing
from maskrcnn_jax.data.masks.instances import check_mask_size, mask_instance
from maskrcnn_jax.data.read_options import DEFAULTS, ReadOptions
from maskrcnn_jax.data.records import Dataset, OneRead, make_dataset, make_record, read_each
from maskrcnn_jax.images.read import image_size
from maskrcnn_jax.images.read_masks import read_ids


def read(
    folder: str | Path,
    class_name: str = "person",
    options: ReadOptions = DEFAULTS,
) -> Dataset:
    """Returns a dataset of one class kept as one image of instance numbers for each image.

    Every mask is read once, here; boxes are tight around them.

    Args:
        folder: that has the folders PNGImages and PedMasks.
        class_name: what the masks show.
        options: see `ReadOptions`.

    Raises:
        ValueError: a folder is missing or empty, or, with on_error="raise", there are faults.
    """
    folder = existing(folder, "folder", is_folder=True)
    for part in ("PNGImages", "PedMasks"):
        existing(os.path.join(folder, part), part, is_folder=True)
    files = by_stem(os.path.join(folder, "PNGImages"))
    masks = by_stem(os.path.join(folder, "PedMasks"))
    if not files:
        raise ValueError(f"{folder}/PNGImages has no images; expected <id>.png")
    names = options.chosen(files)

    def read_one(name: str) -> OneRead:
        mask = masks.get(f"{name}_mask", f"{name}_mask.png")
        return _read_one(folder, name, files[name], mask, options.max_pixels)

    records, faults = read_each(read_one, names)
    return make_dataset((folder, options.split), [class_name], records, faults, options)


def _read_one(folder: str, name: str, file: str, mask: str, max_pixels: int) -> OneRead:
    """Reads one image's size and masks, or says what is wrong with them."""
    image = os.path.join(folder, "PNGImages", file)
    mask_file = os.path.join(folder, "PedMasks", mask)
    try:
        ids = read_ids(mask_file, max_pixels)
        # The size of the upright photograph, or as the camera stored it.
        height, width = image_size(image, max_pixels, ids.shape)
        check_mask_size(ids, height, width)
        instances = [mask_instance(ids == i, 1, height, width) for i in np.unique(ids) if i]
    except (ValueError, OSError) as error:
        return None, [fault_of(error, mask_file, image_id=name)]
    return make_record(name, image, height, width, instances), []
