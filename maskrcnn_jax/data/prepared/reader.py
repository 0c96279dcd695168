"""The reader of prepared datasets: images and annotations in a few shards.

Shards are ArrayRecord files, in which tensorflow-datasets finds an example by its number. So the
order of images stays the sampler's, and each process reads the images of its own slots alone. A
split is stored twice: whole, and without the images, which is what is read when it is opened.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn_jax.data.files.paths import existing
from maskrcnn_jax.data.masks.segmentation import RLE, Polygons, Segmentation
from maskrcnn_jax.data.prepared.layout import NAME, VERSION, WITHOUT_IMAGES, check_array_record
from maskrcnn_jax.data.prepared.tfrecords import values
from maskrcnn_jax.data.read_options import DEFAULTS, ReadOptions
from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.images.pixels import RGB8, PixelFormat
from maskrcnn_jax.images.read import read_image

_AT_ONCE = 1000  # examples read together when a split is opened


def read(folder: str | Path, split: str = "train", options: ReadOptions = DEFAULTS) -> Dataset:
    """Returns one split of a prepared dataset, with the records that were given to `prepare`.

    Masks that were files are run-length masks here. An image is read from its shard when it is
    asked for.

    Args:
        folder: that was given to `prepare`.
        split: the name that it was prepared by.
        options: `max_pixels` is used.

    Raises:
        ValueError: there is no such dataset or split, a shard is missing or broken, or array_record
            is not installed.
    """
    folder = existing(folder, "folder", is_folder=True)
    check_array_record()
    builder = _open_builder(folder)
    metadata = builder.info.metadata
    splits = [name for name in builder.info.splits if not name.endswith(WITHOUT_IMAGES)]
    if split not in splits:
        raise ValueError(f"split is {split!r}; {folder} has the splits {sorted(splits)}")
    examples = _Examples(builder, split)
    records = [_record(example) for example in _Examples(builder, split + WITHOUT_IMAGES).all()]
    if len(records) != len(examples):
        raise ValueError(
            f"{folder} has {len(examples)} images in split {split!r} and annotations of "
            f"{len(records)}; prepare it again"
        )
    examples.check_shards(builder.info.splits[split].shard_lengths)
    number_of = {record.image_id: number for number, record in enumerate(records)}

    def read_content(record: Record, wanted: PixelFormat = RGB8) -> np.ndarray:
        (content,) = values(examples[number_of[record.image_id]], "image")
        where = f"the image in split {split!r} of {builder.data_dir}"
        return read_image(where, options.max_pixels, (record.height, record.width), content, wanted)

    return Dataset(
        name=metadata["names"][split],
        class_names=tuple(metadata["class_names"]),
        category_ids=tuple(metadata["category_ids"]),
        records=records,
        read_image=read_content,
    )


def _open_builder(folder: str) -> Any:
    """Returns the builder of what has been prepared in the folder."""
    prepared = os.path.join(folder, NAME, VERSION)
    if not os.path.isfile(os.path.join(prepared, "dataset_info.json")):
        raise ValueError(
            f"{folder} is not a prepared dataset: there is no {NAME}/{VERSION}/dataset_info.json "
            "in it; give the --out of `python -m maskrcnn_jax.data prepare`"
        )
    # Here, because tensorflow-datasets takes a second to import, which other formats would pay too.
    # And it is our own builder, which knows its features: a general one would take them from the
    # folder, and import whatever modules are named there.
    from maskrcnn_jax.data.prepared.builder import Instances

    try:
        builder = Instances(folder)
        if {"names", "class_names", "category_ids"} <= builder.info.metadata.keys():
            return builder
        raise ValueError("metadata.json lacks the classes")
    except Exception as error:  # JSON and protocol buffers, each with errors of its own
        raise ValueError(
            f"{prepared} cannot be opened: {error}; copy it again, or prepare the dataset again"
        ) from error


class _Examples:
    """The examples of a split by their number; what goes wrong is a ValueError that says where.

    They are tf.train.Example messages. To read these is several times as fast as to have
    tensorflow-datasets decode each number of each instance, and COCO has 860,000 instances.
    """

    def __init__(self, builder: Any, split: str):
        # Neither of these imports TensorFlow.
        import tensorflow_datasets as tfds
        from tensorflow_datasets.proto import tf_example_pb2

        self._where = f"split {split!r} of {builder.data_dir}"
        self._parse = tf_example_pb2.Example.FromString
        with self._faults_named():
            raw = tfds.decode.DeserializeMethod.RAW_BYTES
            self._source = builder.as_data_source(split, deserialize_method=raw)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, number: int) -> Any:
        with self._faults_named():
            return self._parse(self._source[number])

    def all(self) -> Iterator[Any]:
        """Yields the examples in order."""
        for first in range(0, len(self), _AT_ONCE):
            numbers = range(first, min(first + _AT_ONCE, len(self)))
            with self._faults_named():
                contents = self._source.__getitems__(list(numbers))
                examples = [self._parse(content) for content in contents]
            yield from examples

    def check_shards(self, lengths: Sequence[int]) -> None:
        """Reads the last example of each shard, which is not to be had of one that is cut short."""
        for end in np.cumsum(lengths):
            self[int(end) - 1]

    @contextmanager
    def _faults_named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # array_record is C++, and its errors are of several kinds
            raise ValueError(
                f"{self._where}: a shard is missing, cut short or changed ({error}); copy it "
                "again, or prepare the dataset again"
            ) from error


def _record(example: Any) -> Record:
    """Returns the record of an example, of which the image is not looked at."""
    (height,), (width,) = values(example, "height"), values(example, "width")
    (image_id,) = values(example, "image_id")
    masks, polygons = (values(example, f"objects/{name}") for name in ("mask", "polygons"))
    return Record(
        image_id=json.loads(image_id),
        path="",
        height=height,
        width=width,
        boxes=np.array(values(example, "objects/box"), np.float32).reshape(-1, 4),
        classes=np.array(values(example, "objects/class"), np.int32),
        crowd=np.array(values(example, "objects/crowd"), bool),
        segmentations=_segmentations(masks, polygons, (height, width)),
        annotation_ids=np.array(values(example, "objects/annotation_id"), np.int64),
        areas=np.array(values(example, "objects/area"), np.float32),
    )


def _segmentations(
    masks: Sequence[bytes], polygons: Sequence[bytes], size: tuple[int, int]
) -> list[Segmentation]:
    """Returns the polygons of each instance that has some, and the run lengths of the others."""
    return [
        Polygons([np.array(part, np.float64).reshape(-1, 2) for part in json.loads(parts)])
        if parts
        else RLE(size, mask)
        for mask, parts in zip(masks, polygons, strict=True)
    ]
