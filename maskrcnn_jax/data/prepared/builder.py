"""The builder of tensorflow-datasets that writes prepared datasets, and opens them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from maskrcnn_jax.data.masks.segmentation import Polygons, to_rle
from maskrcnn_jax.data.prepared.layout import NAME, VERSION, WITHOUT_IMAGES
from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.images.png import to_file

_KEYS = 2**128  # of tensorflow-datasets, which has keys of 128 bits


class Instances(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """The builder of tensorflow-datasets, which asks these methods what to write."""

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
        # same fraction of all keys. The keys 0, 1, 2, ... would all be in one, which memory must
        # hold.
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
        parts = None
        if isinstance(segmentation, Polygons):
            parts = [part.ravel().tolist() for part in segmentation.parts]
        objects.append(
            {
                "box": record.boxes[i],
                "class": record.classes[i],
                "crowd": record.crowd[i],
                "area": record.areas[i],
                "annotation_id": record.annotation_ids[i],
                "mask": to_rle(segmentation, record.height, record.width)["counts"],
                "polygons": json.dumps(parts, separators=(",", ":")) if parts is not None else "",
            }
        )
    return {
        "image": content,
        "image_id": json.dumps(record.image_id),
        "height": record.height,
        "width": record.width,
        "objects": objects,
    }
