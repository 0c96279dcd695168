"""The reader of PennFudan's layout: `PNGImages/<id>.png` beside `PedMasks/<id>_mask.png`.

Each mask file has the instances of one image: 0 is background, every other number one instance.
Any dataset of one class that is kept in this way can be read.

Source: Wang et al., "Object Detection Combining Recognition and Segmentation", ACCV 2007.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from maskrcnn_jax.data.formats.paths import existing, pictures
from maskrcnn_jax.data.masks.instances import check_mask_size, mask_instance
from maskrcnn_jax.data.records import Dataset, Fault, Record, make_dataset, make_record
from maskrcnn_jax.data.split import of_split
from maskrcnn_jax.images.read import MAX_PIXELS, image_size, read_ids


def read(
    folder: str | Path,
    class_name: str = "person",
    split: str = "",
    val_fraction: float = 0.2,
    split_seed: int = 0,
    on_error: str = "skip",
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    """Returns a dataset of one class kept as one image of instance numbers for each image.

    Every mask is read once, here; boxes are tight around them.

    Args:
        folder: that has the folders PNGImages and PedMasks.
        class_name: what the masks show.
        split: "train", "val", or "" for all images (see `of_split`).
        val_fraction: share of the validation images, where `split` is given.
        split_seed: another one divides the images otherwise.
        on_error: "skip", or "raise" to accept no fault.
        max_pixels: an image or mask of more pixels is refused before it is decoded.

    Raises:
        ValueError: a folder is missing or empty, or, with on_error="raise", there are faults.
    """
    folder = existing(folder, "folder", is_folder=True)
    for part in ("PNGImages", "PedMasks"):
        existing(os.path.join(folder, part), part, is_folder=True)
    files = {Path(name).stem: name for name in pictures(os.path.join(folder, "PNGImages"))}
    if not files:
        raise ValueError(f"{folder}/PNGImages has no images; expected <id>.png")
    names = of_split(files, split, val_fraction, split_seed)
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
        read_one = partial(_read_one, folder, max_pixels=max_pixels)
        results = list(pool.map(read_one, names, [files[name] for name in names]))
    faults = [found for record, found in results if record is None]
    records = [record for record, _ in results if record is not None]
    return make_dataset((folder, split), [class_name], records, faults, on_error, max_pixels)


def _read_one(
    folder: str, name: str, file: str, max_pixels: int
) -> tuple[Record | None, Fault | None]:
    """Reads one image's size and masks, or says what is wrong with them."""
    image = os.path.join(folder, "PNGImages", file)
    mask_file = os.path.join(folder, "PedMasks", f"{name}_mask.png")
    try:
        height, width = image_size(image, max_pixels)
        ids = read_ids(mask_file, max_pixels)
        check_mask_size(ids, height, width)
        instances = [mask_instance(ids == i, 1, height, width) for i in np.unique(ids) if i]
    except (ValueError, OSError) as error:
        return None, Fault(mask_file, str(error), image_id=name)
    return make_record(name, image, height, width, instances), None
