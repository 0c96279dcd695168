"""The reader of folders of masks: `<image>/images/*.png` beside one `<image>/masks/*.png` each.

So are the images of the 2018 Data Science Bowl kept. A folder is an image, its name the image's
id, and every file in `masks` one instance, bright on dark.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from maskrcnn_jax.data.images import MAX_PIXELS, image_size, read_mask
from maskrcnn_jax.data.paths import existing
from maskrcnn_jax.data.records import (
    Dataset,
    Fault,
    Record,
    make_record,
    raise_errors,
    read_image_file,
)
from maskrcnn_jax.data.segmentation import RLE

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def read(
    folder: str | Path,
    class_name: str = "object",
    on_error: str = "skip",
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    """Returns a dataset of one class kept as a folder of masks for each image.

    Every mask is read once, here; boxes are tight around them.

    Args:
        folder: that has one folder for each image.
        class_name: what the masks show.
        on_error: "skip", or "raise" to accept no fault.
        max_pixels: an image or mask of more pixels is refused before it is decoded.

    Raises:
        ValueError: there is no such folder, it has no images, or, with on_error="raise", faults.
    """
    folder = existing(folder, "folder", is_folder=True)
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not any(os.path.isdir(os.path.join(folder, name, "images")) for name in names):
        raise ValueError(
            f"{folder} has no image in this format; expected <image>/images/*.png and "
            f"<image>/masks/*.png in it, found the folders {names[:5]}"
        )
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
        read_one = partial(_read_one, folder, max_pixels=max_pixels)
        results = list(pool.map(read_one, names))
    faults = [fault for _, found in results for fault in found]
    raise_errors(faults, on_error)
    records = [record for record, _ in results if record is not None]
    first_ids = np.cumsum([1] + [len(record.classes) for record in records])
    for record, first in zip(records, first_ids, strict=False):
        record.annotation_ids[:] = np.arange(first, first + len(record.classes))
    return Dataset(
        name=Path(folder).name,
        class_names=(class_name,),
        category_ids=(1,),
        records=records,
        read_image=partial(read_image_file, max_pixels=max_pixels),
        faults=faults,
    )


def _read_one(folder: str, name: str, max_pixels: int) -> tuple[Record | None, list[Fault]]:
    """Reads one image's size and masks; its annotation ids stay 0."""
    base = os.path.join(folder, name)
    files = _pictures(os.path.join(base, "images"))
    if len(files) != 1:
        return None, [Fault(base, f"images/ has {len(files)} images; expected one")]
    try:
        height, width = image_size(files[0], max_pixels)
    except (ValueError, OSError) as error:
        return None, [Fault(base, str(error), image_id=name)]
    if not os.path.isdir(os.path.join(base, "masks")):
        reason = "it has no folder masks/; make an empty one if there is no object in the image"
        return None, [Fault(base, reason, image_id=name)]
    instances, faults = [], []
    for path in _pictures(os.path.join(base, "masks")):
        try:
            instances.append(_instance(read_mask(path, max_pixels), height, width))
        except (ValueError, OSError) as error:
            faults.append(Fault(path, str(error)))
    return make_record(name, files[0], height, width, instances), faults


def _pictures(folder: str) -> list[str]:
    """Returns the image files of a folder in order; none where there is no such folder."""
    if not os.path.isdir(folder):
        return []
    names = (entry.name for entry in os.scandir(folder))
    wanted = (n for n in names if n.lower().endswith(_SUFFIXES) and not n.startswith("."))
    return [os.path.join(folder, name) for name in sorted(wanted)]


def _instance(mask: np.ndarray, height: int, width: int) -> tuple:
    """Returns what `make_record` takes of one mask."""
    if mask.shape != (height, width):
        raise ValueError(
            f"the mask is {mask.shape[0]} x {mask.shape[1]} (height x width); its image is "
            f"{height} x {width}"
        )
    if not mask.any():
        raise ValueError("the mask is empty")
    rle = coco_mask.encode(np.asfortranarray(mask))
    x, y, w, h = coco_mask.toBbox(rle)
    segmentation = RLE((height, width), rle["counts"])
    return (x, y, x + w, y + h), 1, False, segmentation, 0, coco_mask.area(rle)
