"""One record becomes one slot of a batch: read, augment, resize, pad."""

import numpy as np
from ml_collections import ConfigDict

from maskrcnn_jax.data import transforms
from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.data.segmentation import rasterize_in_box
from maskrcnn_jax.data.transforms import Example


def make_example(
    record: Record, dataset: Dataset, data: ConfigDict, rng: np.random.Generator | None
) -> tuple[dict[str, np.ndarray], int]:
    """Makes one image's part of a batch.

    Args:
        record: the image and its annotations.
        dataset: whose `read_image` decodes the image.
        data: the configuration's `data` section.
        rng: source of the random augmentation; None: no augmentation.

    Returns:
        The arrays of a batch without their leading axis (see `example_spec`), and the number of
        objects that were cut because the image has more than `data.max_instances`.

    Raises:
        ValueError, OSError: the image or one of its masks cannot be read, or the image does not
            have the size that its record says.
    """
    example, num_cut = read_example(record, dataset, data)
    if rng is not None:
        example = augment(rng, example, data)
    size = transforms.resized_size(*example.image.shape[:2], data)
    bucket = data.buckets[transforms.choose_bucket(*size, data.buckets)]
    return pad_example(transforms.resize(example, size), bucket, data.max_instances), num_cut


def read_example(record: Record, dataset: Dataset, data: ConfigDict) -> tuple[Example, int]:
    """Reads an image and its objects; returns them and the number of objects that were cut."""
    image = dataset.read_image(record)
    if image.shape[:2] != (record.height, record.width):
        raise ValueError(
            f"{record.path} has {image.shape[0]} x {image.shape[1]} pixels (height x width), its "
            f"annotation says {record.height} x {record.width}; correct the annotation"
        )
    keep = largest(record.boxes, data.max_instances)
    masks = np.zeros((len(keep), data.mask_size, data.mask_size), np.uint8)
    for slot, i in enumerate(keep):
        masks[slot] = rasterize_in_box(
            record.segmentations[i], record.boxes[i], record.height, record.width, data.mask_size
        )
    example = Example(
        image=image,
        boxes=record.boxes[keep].reshape(-1, 4),
        classes=record.classes[keep],
        crowd=record.crowd[keep],
        masks=masks,
    )
    return example, len(record.boxes) - len(keep)


def largest(boxes: np.ndarray, count: int) -> np.ndarray:
    """Returns the indices, ascending, of the `count` boxes [n, 4] of largest area.

    Small objects are those that a detector can least learn from; ties go to the lower index.
    """
    if len(boxes) <= count:
        return np.arange(len(boxes))
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.sort(np.argsort(-area, kind="stable")[:count])


def augment(rng: np.random.Generator, example: Example, data: ConfigDict) -> Example:
    """Returns the example after the random changes of training, in their order."""
    return transforms.random_flip(rng, example, data.flip)


def pad_example(
    example: Example, bucket: transforms.Size, max_instances: int
) -> dict[str, np.ndarray]:
    """Pads image and objects to the static shapes of a batch."""
    count = len(example.boxes)
    padded = empty_example(bucket, max_instances, example.masks.shape[-1])
    height, width = example.image.shape[:2]
    padded["image"][:height, :width] = example.image
    padded["image_size"][:] = height, width
    padded["gt_boxes"][:count] = example.boxes
    padded["gt_classes"][:count] = example.classes
    padded["gt_masks"][:count] = example.masks
    padded["gt_crowd"][:count] = example.crowd
    padded["gt_valid"][:count] = True
    padded["image_valid"][...] = True
    return padded


def empty_example(
    bucket: transforms.Size, max_instances: int, mask_size: int
) -> dict[str, np.ndarray]:
    """Returns a slot that holds no image: black, without objects, `image_valid` false.

    Its `image_size` is the whole bucket, so that nothing downstream meets an image of no size.
    """
    example = {
        name: np.zeros(shape, dtype)
        for name, (shape, dtype) in example_spec(bucket, max_instances, mask_size).items()
    }
    example["image_size"][:] = bucket
    return example


def example_spec(
    bucket: tuple[int | None, int | None], max_instances: int, mask_size: int
) -> dict[str, tuple[tuple[int | None, ...], type]]:
    """Returns shape and dtype of every array of an example; a batch has one axis more in front.

    Args:
        bucket: height and width of the padded image.
        max_instances: G, ground-truth slots.
        mask_size: M, side of the grid of a mask.
    """
    slots = max_instances
    return {
        "image": ((*bucket, 3), np.uint8),
        "image_size": ((2,), np.float32),
        "gt_boxes": ((slots, 4), np.float32),
        "gt_classes": ((slots,), np.int32),
        "gt_masks": ((slots, mask_size, mask_size), np.uint8),
        "gt_crowd": ((slots,), np.bool_),
        "gt_valid": ((slots,), np.bool_),
        "image_valid": ((), np.bool_),
    }
