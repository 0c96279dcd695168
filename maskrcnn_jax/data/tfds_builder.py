"""Prepares any dataset for tensorflow-datasets: a few large files in place of many small ones.

    python -m maskrcnn_jax.data.tfds_builder --config=configs/coco.py --out=prepared
    python -m maskrcnn_jax.data.tfds_builder --format=labelme --folder=photos --out=prepared

Data are named as for `python -m maskrcnn_jax.data`. The result is read with data.format = "tfds".
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import flags

from maskrcnn_jax.data import datasets
from maskrcnn_jax.data.array_files import to_file
from maskrcnn_jax.data.command_line import add_arguments, target
from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.data.segmentation import Polygons, to_rle
from maskrcnn_jax.data.tfds_reader import NAME, VERSION, WITHOUT_IMAGES, check_array_record

_KEYS = 2**128  # of tensorflow-datasets, which has keys of 128 bits


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
        if not dataset.records:
            raise ValueError(f"split {name!r} ({dataset.name}) has no usable image")
        if len({record.image_id for record in dataset.records}) < len(dataset.records):
            raise ValueError(f"split {name!r} ({dataset.name}) has two images of the same id")
        if (dataset.class_names, dataset.category_ids) != (first.class_names, first.category_ids):
            raise ValueError(
                f"split {name!r} has the classes {dataset.class_names}, another one "
                f"{first.class_names}; give both the same class_names, or prepare them apart"
            )


class Instances(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The builder of tensorflow-datasets, whose way to be told what to write are these methods."""

    name = NAME
    VERSION = tfds.core.Version(VERSION)
    # Nothing is downloaded. To look for addresses beside this file, tensorflow-datasets 4.9.10
    # needs a package that it does not bring along (tensorflow/datasets #11212).
    url_infos = None

    def __init__(self, data_dir: str, splits: Mapping[str, Dataset] | None = None):
        """Names the folder, and what is written there unless it is prepared already."""
        self._datasets = splits or {}
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        metadata: dict[str, Any] = {}
        for split, dataset in self._datasets.items():
            metadata["class_names"] = list(dataset.class_names)
            metadata["category_ids"] = [int(number) for number in dataset.category_ids]
            metadata.setdefault("names", {})[split] = dataset.name
        return tfds.core.DatasetInfo(
            builder=self,
            description="Images with the boxes, classes and masks of their instances.",
            features=_features(),
            metadata=tfds.core.MetadataDict(metadata),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        generators = {}
        for split, dataset in self._datasets.items():
            generators[split] = self._generate_examples(dataset, True)
            generators[split + WITHOUT_IMAGES] = self._generate_examples(dataset, False)
        return generators

    def _generate_examples(
        self, dataset: Dataset, with_images: bool
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        # More than a gigabyte of examples is sorted by keys in the end, in 1,000 parts, each of the
        # same share of all keys. The keys 0, 1, 2, ... would all be in one, which memory must hold.
        step = _KEYS // len(dataset.records)
        for number, record in enumerate(dataset.records):
            content = _content(record, dataset) if with_images else b""
            yield number * step, _example(record, content)


def _features() -> tfds.features.FeaturesDict:
    """Returns what an example has; sizes and coordinates are in pixels of the stored image."""
    objects = {
        "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),  # xyxy
        "class": tfds.features.Scalar(np.int32),  # 1..K; the names are in the metadata
        "crowd": tfds.features.Scalar(np.bool_),
        "area": tfds.features.Scalar(np.float32),
        "annotation_id": tfds.features.Scalar(np.int64),
        "mask": tfds.features.Scalar(np.object_),  # COCO's compressed run lengths
        "polygons": tfds.features.Text(),  # JSON, [[x, y, ...], ...]; empty where there are none
    }
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Scalar(np.object_),  # the file's content
            "image_id": tfds.features.Text(),  # JSON: a number, or text in quotes
            "height": tfds.features.Scalar(np.int32),
            "width": tfds.features.Scalar(np.int32),
            "objects": tfds.features.Sequence(objects),
        }
    )


def _content(record: Record, dataset: Dataset) -> bytes:
    """Returns an image as a file holds it."""
    if record.path:
        return Path(record.path).read_bytes()
    return to_file(dataset.read_image(record))[0]


def _example(record: Record, content: bytes) -> dict[str, Any]:
    objects = []
    for i, segmentation in enumerate(record.segmentations):
        # Polygons are kept beside their mask: inside a small box they say more than whole pixels.
        is_polygons = isinstance(segmentation, Polygons)
        parts = [part.ravel().tolist() for part in segmentation.parts] if is_polygons else None
        objects.append(
            {
                "box": record.boxes[i],
                "class": record.classes[i],
                "crowd": record.crowd[i],
                "area": record.areas[i],
                "annotation_id": record.annotation_ids[i],
                "mask": to_rle(segmentation, record.height, record.width)["counts"],
                "polygons": json.dumps(parts, separators=(",", ":")) if is_polygons else "",
            }
        )
    return {
        "image": content,
        "image_id": json.dumps(record.image_id),
        "height": record.height,
        "width": record.width,
        "objects": objects,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m maskrcnn_jax.data.tfds_builder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_arguments(
        parser, "of a recipe: both unless given; with --format: all, as train, unless given"
    )
    parser.add_argument("--out", required=True, help="the folder to write into")
    parser.add_argument("--num_shards", type=int, metavar="N", help="files of each split")
    options, others = parser.parse_known_args(arguments)
    try:
        config, names = target(options, others, "both")
        splits = {name: datasets.load(config.data, name) for name in names}
        for fault in (fault for dataset in splits.values() for fault in dataset.faults):
            print(fault, file=sys.stderr)
        print(prepare(splits, options.out, options.num_shards))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, flags.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
