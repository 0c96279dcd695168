"""The reader of prepared datasets: images and annotations in a few shards.

Shards are ArrayRecord files, in which tensorflow-datasets finds an example by its number. So the
order of images stays the sampler's, and each process reads the images of its own slots alone. A
split is stored twice: whole, and without the images, which is what is read when it is opened.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn_jax.data.faults import Fault, fault_of, raise_errors
from maskrcnn_jax.data.files.paths import existing
from maskrcnn_jax.data.prepared.examples import record_of
from maskrcnn_jax.data.prepared.folder import check_folder, check_metadata
from maskrcnn_jax.data.prepared.layout import NAME, VERSION, WITHOUT_IMAGES, check_array_record
from maskrcnn_jax.data.prepared.tfrecords import content_of
from maskrcnn_jax.data.read_options import DEFAULTS, ReadOptions
from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.faults import FaultError, FaultKind
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
        options: `max_pixels` and `on_error` are used.

    Raises:
        ValueError: there is no such dataset or split, a shard is missing or broken, or array_record
            is not installed.
    """
    folder = existing(folder, "folder", is_folder=True)
    check_array_record()
    builder = _open_builder(folder)
    metadata = builder.info.metadata
    splits = [name for name in builder.info.splits if not name.endswith(WITHOUT_IMAGES)]
    if split not in splits or split not in metadata["names"]:
        raise ValueError(f"split is {split!r}; {folder} has the splits {sorted(splits)}")
    if split + WITHOUT_IMAGES not in builder.info.splits:
        raise ValueError(f"{folder} has no annotations of split {split!r}; prepare it again")
    examples, annotations = _Examples(builder, split), _Examples(builder, split + WITHOUT_IMAGES)
    if len(annotations) != len(examples):
        raise ValueError(
            f"{folder} has {len(examples)} images in split {split!r} and annotations of "
            f"{len(annotations)}; prepare it again"
        )
    examples.check_shards(builder.info.splits[split].shard_lengths)
    where = f"split {split!r} of {builder.data_dir}"
    numbered, faults = _records(annotations, len(metadata["class_names"]), where, options)
    raise_errors(faults, options.on_error)
    number_of = {record.image_id: number for number, record in numbered.items()}

    def read_content(record: Record, wanted: PixelFormat = RGB8) -> np.ndarray:
        image = f"image {record.image_id} in {where}"
        content = content_of(examples[number_of[record.image_id]], image)
        return read_image(image, options.max_pixels, (record.height, record.width), content, wanted)

    return Dataset(
        name=metadata["names"][split],
        class_names=tuple(metadata["class_names"]),
        category_ids=tuple(metadata["category_ids"]),
        records=list(numbered.values()),
        read_image=read_content,
        faults=faults,
    )


def _records(
    annotations: "_Examples", num_classes: int, where: str, options: ReadOptions
) -> tuple[dict[int, Record], list[Fault]]:
    """Returns the records by the numbers of their examples, and the faults found."""
    records: dict[int, Record] = {}
    faults, ids = [], set()
    for number, example in enumerate(annotations.all()):
        place = f"{where}: example {number}"
        try:
            record, odd = record_of(example, num_classes, options.max_pixels)
            if record.image_id in ids:
                reason = f"its image_id {record.image_id!r:.80} is that of an earlier example"
                raise FaultError(FaultKind.ID, reason)
        except (ValueError, RecursionError) as error:
            faults.append(fault_of(error, place))
            continue
        ids.add(record.image_id)
        records[number] = record
        faults += [fault_of(e, f"{place}: annotation {i}", "warning") for i, e in odd]
    return records, faults


def _open_builder(folder: str) -> Any:
    """Returns the builder of what has been prepared in the folder."""
    prepared = os.path.join(folder, NAME, VERSION)
    if not os.path.isfile(os.path.join(prepared, "dataset_info.json")):
        raise ValueError(
            f"{folder} is not a prepared dataset: there is no {NAME}/{VERSION}/dataset_info.json "
            "in it; give the --out of `python -m maskrcnn_jax.data prepare`"
        )
    check_folder(prepared)
    # Here, because tensorflow-datasets takes a second to import, which other formats would pay too.
    # And it is our own builder, which knows its features: a general one would take them from the
    # folder, and import whatever modules are named there.
    from maskrcnn_jax.data.prepared.builder import Instances

    try:
        builder = Instances(folder)
        metadata = builder.info.metadata
    except Exception as error:  # JSON and protocol buffers, each with errors of its own
        raise ValueError(
            f"{prepared} cannot be opened: {error}; copy it again, or prepare the dataset again"
        ) from error
    if not {"names", "class_names", "category_ids"} <= dict(metadata or {}).keys():
        raise ValueError(
            f"{prepared} cannot be opened: metadata.json lacks the classes; copy it again, or "
            "prepare the dataset again"
        )
    check_metadata(metadata, prepared)
    return builder


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
