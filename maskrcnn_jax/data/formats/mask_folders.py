"""The reader of folders of masks: `<image>/images/*.png` beside one `<image>/masks/*.png` each.

So are the images of the 2018 Data Science Bowl kept. A folder is an image, its name the image's
id, and every file in `masks` one instance, bright on dark.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from maskrcnn_jax.data.formats.paths import existing, pictures
from maskrcnn_jax.data.masks.instances import mask_instance
from maskrcnn_jax.data.records import Dataset, Fault, Record, make_dataset, make_record
from maskrcnn_jax.data.split import of_split
from maskrcnn_jax.images.read import MAX_PIXELS, image_size, read_mask


def read(
    folder: str | Path,
    class_name: str = "object",
    split: str = "",
    val_fraction: float = 0.2,
    split_seed: int = 0,
    on_error: str = "skip",
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    """Returns a dataset of one class kept as a folder of masks for each image.

    Every mask is read once, here; boxes are tight around them.

    Args:
        folder: that has one folder for each image.
        class_name: what the masks show.
        split: "train", "val", or "" for all images (see `of_split`).
        val_fraction: share of the validation images, where `split` is given.
        split_seed: another one divides the images otherwise.
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
    names = of_split(names, split, val_fraction, split_seed)
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
        read_one = partial(_read_one, folder, max_pixels=max_pixels)
        results = list(pool.map(read_one, names))
    faults = [fault for _, found in results for fault in found]
    records = [record for record, _ in results if record is not None]
    return make_dataset((folder, split), [class_name], records, faults, on_error, max_pixels)


def _read_one(folder: str, name: str, max_pixels: int) -> tuple[Record | None, list[Fault]]:
    """Reads one image's size and masks; its annotation ids stay 0."""
    base = os.path.join(folder, name)
    files = pictures(os.path.join(base, "images"))
    if len(files) != 1:
        return None, [Fault(base, f"images/ has {len(files)} images; expected one")]
    image = os.path.join(base, "images", files[0])
    try:
        height, width = image_size(image, max_pixels)
    except (ValueError, OSError) as error:
        return None, [Fault(base, str(error), image_id=name)]
    if not os.path.isdir(os.path.join(base, "masks")):
        reason = "it has no folder masks/; make an empty one if there is no object in the image"
        return None, [Fault(base, reason, image_id=name)]
    instances, faults = [], []
    for mask in pictures(os.path.join(base, "masks")):
        path = os.path.join(base, "masks", mask)
        try:
            instances.append(mask_instance(read_mask(path, max_pixels), 1, height, width))
        except (ValueError, OSError) as error:
            faults.append(Fault(path, str(error)))
    return make_record(name, image, height, width, instances), faults
