"""The images of `side_by_side.py`: as torchvision's side reads them, and as batches of ours."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maskrcnn_jax.data.masks.segmentation import to_mask
from maskrcnn_jax.data.records import Dataset

Example = dict[str, np.ndarray]


def order(seed: int, count: int, steps: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images [steps, batch] of every step, and whether each is flipped.

    Every image comes once before any comes again.
    """
    rng = np.random.default_rng(seed)
    epochs = -(-steps * batch // count)
    images = np.concatenate([rng.permutation(count) for _ in range(epochs)])
    return images[: steps * batch].reshape(steps, batch), rng.random((steps, batch)) < 0.5


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an .npz that is there whole or not at all."""
    partial = path.with_suffix(".part.npz")
    np.savez(partial, **arrays)
    partial.rename(path)


def arrays_of(name: str, data: Dataset) -> Example:
    """Returns images and objects at their original size."""
    arrays: dict = {f"{name}.count": np.array(len(data.records))}
    for i, record in enumerate(data.records):
        size = record.height, record.width
        masks = [to_mask(segmentation, *size) for segmentation in record.segmentations]
        arrays[f"{name}.image.{i}"] = data.read_image(record)
        arrays[f"{name}.boxes.{i}"] = record.boxes
        arrays[f"{name}.classes.{i}"] = record.classes
        arrays[f"{name}.masks.{i}"] = np.packbits(
            np.array(masks, np.uint8).reshape(-1, *size), axis=-1
        )
    return arrays


def cut(example: Example, count: int) -> None:
    for name in example:
        if name.startswith("gt_"):
            example[name] = example[name][:count].copy()


def flipped(example: Example) -> Example:
    """Returns an image and its objects, left to right."""
    width = int(example["image_size"][1])
    image, boxes = example["image"].copy(), example["gt_boxes"].copy()
    image[:, :width] = image[:, :width][:, ::-1]
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    masks = example["gt_masks"][:, :, ::-1]
    return example | {"image": image, "gt_boxes": boxes, "gt_masks": masks}


def batch_of(examples: Sequence[Example], slots: int) -> Example:
    """Stacks examples, each with as many slots for objects."""

    def padded(name, array):
        missing = slots - len(array) if name.startswith("gt_") else 0
        return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)) if missing else array

    return {name: np.stack([padded(name, e[name]) for e in examples]) for name in examples[0]}
