"""coco/2017 as tensorflow-datasets prepares it, with masks joined from COCO's JSON file."""

import itertools
import json
import os
import shutil
from collections import Counter
from contextlib import closing

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.object_detection import coco as their_coco

from maskrcnn_jax.config import get_config
from maskrcnn_jax.data import check, datasets
from maskrcnn_jax.data.formats import coco
from maskrcnn_jax.data.input import pipeline
from maskrcnn_jax.data.masks.segmentation import to_mask
from maskrcnn_jax.data.prepared import tfds_coco
from maskrcnn_jax.data.read_options import ReadOptions

TRAIN = "annotations/instances_train2017.json"


class Coco(their_coco.Coco, skip_registration=True):
    """tensorflow-datasets' own builder, but for the download: of files in COCO's layout."""

    name = "coco"
    url_infos = None  # nothing is downloaded; see `data.prepared.builder`

    def _split_generators(self, dl_manager):
        return [
            tfds.core.SplitGenerator(
                name=name,
                gen_kwargs=dict(
                    image_dir=self.root,
                    annotation_dir=self.root,
                    split_name=folder,
                    annotation_type=their_coco.AnnotationType.BBOXES,
                    panoptic_dir=None,
                ),
            )
            for folder, name in self.parts.items()  # the names of splits, by those of folders
        ]


def prepare(root, out, parts, num_shards=None, file_format="tfrecord"):
    """Prepares a folder in COCO's layout as tensorflow-datasets does coco/2017."""
    builder = Coco(data_dir=str(out), config="2017", file_format=file_format)
    builder.root, builder.parts = str(root), parts
    options = tfds.download.DownloadConfig(num_shards=num_shards)
    builder.download_and_prepare(download_config=options)
    return out


def content(num_images=5):
    """Returns annotations of 80 classes: image n has n squares, the last of them a crowd."""
    categories = [dict(id=2 * i + 1, name=f"class {i}") for i in range(80)]
    images = [
        dict(id=100 - n, file_name=f"{n}.jpg", height=40, width=60) for n in range(num_images)
    ]
    annotations = []
    for image in images:
        count = 100 - image["id"]
        for k in range(count):
            x, y = 3.25 * k, 2.5 * k
            outline = [[x, y, x + 12, y, x + 12, y + 9, x, y + 9]]
            runs = dict(size=[40, 60], counts=[5, 8, 2387])
            is_crowd = k == count - 1
            annotations.append(
                dict(
                    id=1000 - len(annotations),
                    image_id=image["id"],
                    category_id=2 * (7 * count + k) + 1,
                    bbox=[0, 5, 1, 8] if is_crowd else [x, y, 12, 9],
                    segmentation=runs if is_crowd else outline,
                    area=8 if is_crowd else 108,
                    iscrowd=int(is_crowd),
                )
            )
    return dict(images=images, annotations=annotations, categories=categories)


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """A folder in COCO's layout, for reading alone."""
    root = tmp_path_factory.mktemp("coco")
    (root / "annotations").mkdir()
    (root / TRAIN).write_text(json.dumps(content()))
    (root / "train2017").mkdir()
    for n in range(5):
        pixels = np.random.default_rng(n).integers(0, 255, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(root / "train2017" / f"{n}.jpg")
    return root


@pytest.fixture(scope="module")
def prepared(layout, tmp_path_factory):
    """The same, prepared in two files, for reading alone."""
    return prepare(layout, tmp_path_factory.mktemp("tfds"), {"train2017": "train"}, num_shards=2)


@pytest.fixture
def changed(layout, tmp_path):
    """Returns a function that gives the JSON file after a change to its content."""

    def change(function):
        changed = json.loads((layout / TRAIN).read_text())
        function(changed)
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(changed))
        return path

    return change


def annotation(changed, number):
    return next(a for a in changed["annotations"] if a["id"] == number)


def assert_records_of_files(joined, files, image_every=1) -> None:
    for name in ("class_names", "category_ids", "name"):
        assert getattr(joined, name) == getattr(files, name)
    assert [r.image_id for r in joined.records] == [r.image_id for r in files.records]
    for number, (record, expected) in enumerate(zip(joined.records, files.records, strict=True)):
        for name in ("boxes", "classes", "crowd", "areas", "annotation_ids"):
            np.testing.assert_array_equal(getattr(record, name), getattr(expected, name), name)
        size = expected.height, expected.width
        assert (record.height, record.width) == size
        for mask, other in zip(record.segmentations, expected.segmentations, strict=True):
            np.testing.assert_array_equal(to_mask(mask, *size), to_mask(other, *size))
        if number % image_every == 0:
            np.testing.assert_array_equal(joined.read_image(record), files.read_image(expected))


def test_records_are_those_of_the_files(layout, prepared):
    joined = tfds_coco.read(prepared, layout / TRAIN)
    assert joined.faults == []
    assert sum(record.crowd.sum() for record in joined.records) == 4
    assert_records_of_files(joined, coco.read("train2017", TRAIN, layout))


def test_photos_of_coco_have_the_masks_of_the_coco_reader(coco_dir, tmp_path):
    annotations = "annotations/instances_val2017.json"
    prepare(coco_dir, tmp_path, {"val2017": "validation"})
    joined = tfds_coco.read(tmp_path, coco_dir / annotations, "val")
    assert joined.faults == []
    expected = coco.read("val2017", annotations, coco_dir)
    assert any(record.crowd.any() for record in expected.records)
    assert_records_of_files(joined, expected, image_every=10)


def test_two_processes_make_the_batches_of_one_that_reads_files(layout, prepared):
    config = get_config()
    config.data.format = "tfds_coco"
    config.data.train = dict(folder=str(prepared), annotations=str(layout / TRAIN))
    config.data.short_side, config.data.long_side = 64, 64
    config.data.buckets = ((64, 64),)
    config.data.max_instances, config.data.mask_size = 5, 16
    config.train.batch_size = 4

    joined = check.checked(datasets.load(config.data, "train"), config.data, log=lambda _: None)
    read_image = joined.read_image

    def batches(dataset, count, *process):
        with closing(pipeline.train_batches(dataset, config, 3, *process)) as stream:
            return list(itertools.islice(stream, count))

    def batches_and_images(process):
        read = []
        joined.read_image = lambda record: read.append(record.image_id) or read_image(record)
        return batches(joined, 3, process, 2), read

    whole = batches(coco.read("train2017", TRAIN, layout), 12)
    (first, first_read), (second, second_read) = batches_and_images(0), batches_and_images(1)
    for (batch, info), *parts in zip(whole, first, second, strict=False):
        assert all(part_info["skipped"] == [] for _, part_info in parts)
        for key, array in batch.items():
            np.testing.assert_array_equal(np.concatenate([part[key] for part, _ in parts]), array)
        assert [i for _, part_info in parts for i in part_info["image_ids"]] == info["image_ids"]
    for process, read in enumerate((first_read, second_read)):
        # Some batches are made ahead, always of the process's own two slots.
        slots = slice(2 * process, 2 * process + 2)
        own = Counter(i for _, info in whole for i in info["image_ids"][slots])
        assert len(read) >= 6
        assert Counter(read) <= own


def test_what_only_one_of_the_two_has_is_left_out_and_listed(prepared, changed):
    def change(content):
        annotation(content, 999)["id"] = 5  # of the image 98, beside 998
        annotation(content, 997)["bbox"] = [1, 0, 12, 9]  # of the image 97, beside 996 and 995
        annotation(content, 996)["category_id"] = 1
        annotation(content, 995)["iscrowd"] = 0
        content["images"][4]["id"] = 17
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 96]

    source = changed(change)
    joined = tfds_coco.read(prepared, source)
    faults = sorted(f"{fault.where.split(': ')[-1]}: {fault.reason}" for fault in joined.faults)
    expected = [
        ("annotation 5: ", "has no such annotation of this image"),
        ("annotation 995: its iscrowd is 0; ", "has 1"),
        ("annotation 996: its class is 'class 0'; ", "has 'class 22'"),
        ("annotation 997: its box is [1.0, 0.0, 13.0, 9.0]; ", "has [0.0, 0.0, 12.0, 9.0]"),
        ("annotation 999: ", "changed.json has no usable annotation of this id in image 98"),
        ("image 17: ", "has no such image"),
        ("image 96: ", "changed.json has no usable image of this id"),
    ]
    for fault, (start, end) in zip(faults, expected, strict=True):
        assert fault.startswith(start)
        assert fault.endswith(end)
    kept = {record.image_id: record.annotation_ids.tolist() for record in joined.records}
    assert kept == {100: [], 99: [1000], 98: [998], 97: []}
    with pytest.raises(ValueError, match="7 faults in the dataset"):
        tfds_coco.read(prepared, source, options=ReadOptions(on_error="raise"))


def test_annotations_of_another_split_are_refused(prepared, changed):
    def change(content):
        content["images"] = [dict(image, id=image["id"] + 1000) for image in content["images"]]
        content["annotations"] = [
            dict(a, image_id=a["image_id"] + 1000) for a in content["annotations"]
        ]

    with pytest.raises(ValueError, match=r"none of the 5 images in split 'train' .* of this split"):
        tfds_coco.read(prepared, changed(change))


def test_what_is_not_prepared_says_how_to_prepare_it(layout, prepared, tmp_path):
    with pytest.raises(ValueError, match=r"tfds build coco/2017 --data_dir="):
        tfds_coco.read(tmp_path, layout / TRAIN)
    with pytest.raises(ValueError, match=r"has the splits \['train'\]; expected 'validation'"):
        tfds_coco.read(prepared, layout / TRAIN, "val")
    with pytest.raises(ValueError, match=r"split is 'test'; expected one of \['train', 'val'\]"):
        tfds_coco.read(prepared, layout / TRAIN, "test")


def test_files_without_places_are_refused(layout, tmp_path):
    pytest.importorskip("array_record", reason="writing such files needs the package array_record")
    prepare(layout, tmp_path, {"train2017": "train"}, file_format="array_record")
    with pytest.raises(ValueError, match="files of the format array_record; prepare coco/2017 in"):
        tfds_coco.read(tmp_path, layout / TRAIN)


def test_a_broken_copy_is_named(layout, prepared, tmp_path):
    copy = shutil.copytree(prepared, tmp_path / "copy")
    folder = copy / tfds_coco.NAME / tfds_coco.VERSION
    shards = sorted(folder.glob("*.tfrecord-*"))
    assert len(shards) == 2
    joined = tfds_coco.read(copy, layout / TRAIN)
    with open(shards[0], "r+b") as file:  # the first picture of the file; its id stays as it was
        file.seek(file.read().index(b"\xff\xd8\xff"))
        file.write(bytes(20))
    faults = [fault for fault in check.check(joined, decode=True) if fault.severity == "error"]
    assert len(faults) == 1
    assert f"image {faults[0].image_id} in {shards[0]} is not a readable" in faults[0].reason
    os.truncate(shards[1], shards[1].stat().st_size - 10)
    with pytest.raises(ValueError, match=r"train\.tfrecord-00001-of-00002 is cut short"):
        tfds_coco.read(copy, layout / TRAIN)
    shards[1].write_bytes(shards[0].read_bytes())
    with pytest.raises(
        ValueError, match=r"train.tfrecord-00001-of-00002 has 3 of 2 images|has 2 of 3"
    ):
        tfds_coco.read(copy, layout / TRAIN)
    shards[1].unlink()
    with pytest.raises(OSError, match="00001-of-00002"):
        tfds_coco.read(copy, layout / TRAIN)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(ValueError, match=r"1\.1\.0/dataset_info\.json is not a JSON file"):
        tfds_coco.read(copy, layout / TRAIN)
