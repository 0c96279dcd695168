"""Prepares any dataset for tensorflow-datasets: a few large files in place of many small ones.

The result is read with config.data.format=tfds.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from maskrcnn_jax.data.prepared.builder import Instances
from maskrcnn_jax.data.prepared.layout import WITHOUT_IMAGES, check_array_record
from maskrcnn_jax.data.records import Dataset


def prepare(splits: Mapping[str, Dataset], out: str | Path, num_shards: int | None = None) -> str:
    """Writes datasets as the splits of one, in the order of their records.

    An image is stored as the bytes of its file. Where it is not a file of its own, it becomes PNG,
    or with other channels than RGB of 8 bits numpy's `.npy`.

    Args:
        splits: the datasets, of the same classes, by the names of their splits.
        out: the folder in which the dataset gets a folder of its own.
        num_shards: files of each split; None: as tensorflow-datasets chooses, 64 MB to 1 GB each.

    Returns:
        The dataset's folder.

    Raises:
        ValueError: there is such a dataset, no split has an image, two have other classes, an image
            id occurs twice, or an image without a file or a mask cannot be read.
        OSError: an image file cannot be read, or a shard not be written.
    """
    check_array_record()
    _check(splits)
    if num_shards is not None and num_shards < 1:
        raise ValueError(f"num_shards is {num_shards}; at least 1 is needed")
    builder = Instances(os.path.abspath(os.path.expanduser(out)), splits)
    if builder.is_prepared():
        raise ValueError(
            f"{builder.data_dir} is prepared already; remove it, or give another --out"
        )
    options = tfds.download.DownloadConfig(num_shards=num_shards)
    builder.download_and_prepare(download_config=options)
    return str(builder.data_dir)


def _check(splits: Mapping[str, Dataset]) -> None:
    if not splits:
        raise ValueError("there is no split to prepare")
    first = next(iter(splits.values()))
    for name, dataset in splits.items():
        if not name.isidentifier() or name.endswith(WITHOUT_IMAGES):
            raise ValueError(
                f"a split is called {name!r}; expected letters, digits and _, not ending in "
                f"{WITHOUT_IMAGES}"
            )
        if dataset.keypoints is not None:
            raise ValueError(
                f"split {name!r} ({dataset.name}) has keypoints, which a prepared data set does "
                "not hold; read it as it is, or leave config.model.keypoints.names empty"
            )
        if not dataset.records:
            raise ValueError(f"split {name!r} ({dataset.name}) has no usable image")
        if len({record.image_id for record in dataset.records}) < len(dataset.records):
            raise ValueError(f"split {name!r} ({dataset.name}) has two images of the same id")
        if (dataset.class_names, dataset.category_ids) != (first.class_names, first.category_ids):
            raise ValueError(
                f"split {name!r} has the classes {dataset.class_names}, another one "
                f"{first.class_names}; give both the same class_names, or prepare them apart"
            )
