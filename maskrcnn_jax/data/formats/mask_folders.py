"""The reader of folders of masks: `<image>/images/*.png` beside one `<image>/masks/*.png` each.

So are the images of the 2018 Data Science Bowl kept. A folder is an image, its name the image's
id, and every file in `masks` one instance, bright on dark.
"""

import os
from functools import partial
from pathlib import Path

from maskrcnn_jax.data.faults import Fault, fault_of
from maskrcnn_jax.data.files.paths import existing, pictures
from maskrcnn_jax.data.masks.instances import mask_instance
from maskrcnn_jax.data.masks.label_map import LabelMap, check_one_object
from maskrcnn_jax.data.read_options import DEFAULTS, ReadOptions
from maskrcnn_jax.data.records import Dataset, OneRead, make_dataset, make_record, read_each
from maskrcnn_jax.faults import FaultKind
from maskrcnn_jax.images.read import image_size
from maskrcnn_jax.images.read_masks import read_mask


def read(
    folder: str | Path,
    class_name: str = "object",
    options: ReadOptions = DEFAULTS,
) -> Dataset:
    """Returns a dataset of one class kept as a folder of masks for each image.

    Every mask is read once, here; boxes are tight around them.

    Args:
        folder: that has one folder for each image.
        class_name: what the masks show.
        options: see `ReadOptions`.

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
    names = options.chosen(names)
    read_one = partial(_read_one, folder, max_pixels=options.max_pixels)
    records, faults = read_each(read_one, names)
    return make_dataset((folder, options.split), [class_name], records, faults, options)


def _read_one(folder: str, name: str, max_pixels: int) -> OneRead:
    """Reads one image's size and masks; its annotation ids stay 0."""
    base = os.path.join(folder, name)
    files = pictures(os.path.join(base, "images"))
    if len(files) != 1:
        return None, [
            Fault(base, f"images/ has {len(files)} images; expected one", FaultKind.MISSING_FILE)
        ]
    image = os.path.join(base, "images", files[0])
    try:
        height, width = image_size(image, max_pixels)
    except (ValueError, OSError) as error:
        return None, [fault_of(error, base, image_id=name)]
    if not os.path.isdir(os.path.join(base, "masks")):
        reason = "it has no folder masks/; make an empty one if there is no object in the image"
        return None, [Fault(base, reason, FaultKind.NOT_ANNOTATED, image_id=name)]
    instances, faults, is_first = [], [], True
    for name_of_mask in pictures(os.path.join(base, "masks")):
        path = os.path.join(base, "masks", name_of_mask)
        try:
            mask = read_mask(path, max_pixels, check=check_one_object)
            if is_first:  # of the upright photograph, or as the camera stored it
                is_first, (height, width) = False, image_size(image, max_pixels, mask.shape)
            instances.append(mask_instance(mask, 1, height, width))
        except LabelMap as error:  # what its objects are cannot be told, so nothing is learned
            return None, [fault_of(error, path, image_id=name)]
        except (ValueError, OSError) as error:
            faults.append(fault_of(error, path, objects=1))
    return make_record(name, image, height, width, instances), faults
