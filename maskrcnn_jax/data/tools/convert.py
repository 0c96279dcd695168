"""Any dataset as a JSON file in COCO's format, which reads back as the same records."""

import json
import os
import re
from pathlib import Path

from maskrcnn_jax.console import counted
from maskrcnn_jax.data.coco_entries import annotation_entries, category_entries, text_runs
from maskrcnn_jax.data.files.paths import path_in
from maskrcnn_jax.data.masks.segmentation import Polygons, Segmentation, to_rle
from maskrcnn_jax.data.records import Dataset
from maskrcnn_jax.files import write_atomically
from maskrcnn_jax.images.png import to_file


def convert(dataset: Dataset, out: str | Path, images_root: str | Path | None = None) -> str:
    """Writes a dataset's records as a JSON file in COCO's format.

    Polygons stay polygons, other masks become compressed run lengths; boxes and areas are those of
    the records, to the last bit. Images that are no files of their own, generated or contained in
    annotation files, are written into the images' folder as PNG.

    Args:
        dataset: whose records are written; what its reader left out is not among them.
        out: the JSON file.
        images_root: the folder to which the names of image files are relative; None: the deepest
            that holds all of them.

    Returns:
        The folder of the images.

    Raises:
        ValueError: an image lies outside the folder, or has no file and no folder is given.
        OSError: a file cannot be written, or an image without a file not be read.
    """
    if not dataset.records:
        raise ValueError(f"dataset {dataset.name} has no usable image: nothing is written")
    root = _root(dataset, images_root)
    names = _file_names(dataset, root)
    content = coco_json(dataset, names)
    write_atomically(out, json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n")
    return root


def _root(dataset: Dataset, images_root: str | Path | None) -> str:
    """Returns the absolute path of the images' folder."""
    if images_root is not None:
        return os.path.abspath(os.path.expanduser(images_root))
    without = [record.image_id for record in dataset.records if not record.path]
    if without:
        raise ValueError(
            f"{len(without)} images, such as {without[0]}, are no files of their own; give "
            "--images-root=FOLDER, where they are to be written as PNG, or as .npy"
        )
    return os.path.commonpath([os.path.dirname(os.path.abspath(r.path)) for r in dataset.records])


def _file_names(dataset: Dataset, root: str) -> list[str]:
    """Returns the name of each image's file in the folder, writing those that are no files."""
    names = []
    records = counted(dataset.records, len(dataset.records), "images converted")
    for number, record in enumerate(records, 1):
        if not record.path:
            content, suffix = to_file(dataset.read_image(record))
            name = re.sub(r"[^A-Za-z0-9.-]+", "_", str(record.image_id))
            names.append(f"{number:06d}_{name}{suffix}")
            write_atomically(Path(root, names[-1]), content)
            continue
        name = os.path.relpath(os.path.abspath(record.path), root).replace(os.sep, "/")
        try:
            path_in(root, name)
        except ValueError as error:
            raise ValueError(
                f"{error}: --images-root must hold all images; {record.path} lies outside"
            ) from error
        names.append(name)
    return names


def coco_json(dataset: Dataset, file_names: list[str]) -> dict[str, object]:
    """Returns a dataset's records as COCO's lists of images, annotations and categories.

    Ids are kept where COCO's own tools can take them: images' and annotations' have to be whole
    numbers, each once, and those of annotations above 0. Else they are numbered from 1.

    Args:
        dataset: the records.
        file_names: of the images, relative to their folder.
    """
    records = dataset.records
    image_ids = [record.image_id for record in records]
    if not all(type(image_id) is int for image_id in image_ids):
        image_ids = list(range(1, len(records) + 1))
    annotations = [
        entry
        for record, image_id in zip(records, image_ids, strict=True)
        for entry in annotation_entries(
            record, image_id, dataset.category_ids, _shape, dataset.keypoints
        )
    ]
    ids = [entry["id"] for entry in annotations]
    if len(set(ids)) < len(ids) or min(ids, default=1) < 1:
        for number, entry in enumerate(annotations, 1):
            entry["id"] = number
    return {
        "info": {"description": f"{dataset.name}, converted by maskrcnn_jax"},
        "images": [
            {"id": image_id, "file_name": name, "height": record.height, "width": record.width}
            for record, image_id, name in zip(records, image_ids, file_names, strict=True)
        ],
        "annotations": annotations,
        "categories": category_entries(dataset),
    }


def _shape(segmentation: Segmentation, height: int, width: int) -> object:
    """Returns polygons as polygons, and any other mask as compressed run lengths."""
    if isinstance(segmentation, Polygons):
        return [part.ravel().tolist() for part in segmentation.parts]
    return text_runs(to_rle(segmentation, height, width))
