"""Every reader's records, written in COCO's format and read back."""

import json

import numpy as np
import pytest

from maskrcnn_jax.cli.data import main
from maskrcnn_jax.data import datasets
from maskrcnn_jax.data.formats import coco, shapes
from maskrcnn_jax.data.masks.segmentation import Polygons, to_mask
from maskrcnn_jax.data.tools.convert import coco_json, convert
from maskrcnn_jax.data.union import union

MASK = np.zeros((40, 60), np.uint8)
MASK[8:24, 16:32] = 255
OTHER = np.zeros((40, 60), np.uint8)
OTHER[30:39, 3:50] = 255
CORNERS = [(10.25, 5.1), (30.7, 5.3), (31.3, 25.9), (9.6, 26.7)]


def _labelme(folder, write_picture) -> dict:
    write_picture("labelme/b/a.png")
    kinds = [dict(flags={"crowd": True}), dict(group_id=3), dict(group_id=3)]
    parts = [dict(label="cat", points=CORNERS, shape_type="polygon") for _ in range(3)]
    parts[2]["points"] = [(40, 30), (45, 30), (45, 35)]
    content = dict(imagePath="a.png", shapes=[p | k for p, k in zip(parts, kinds, strict=True)])
    (folder / "labelme" / "b" / "a.json").write_text(json.dumps(content))
    return dict(folder=folder / "labelme")


def _via(folder, write_picture) -> dict:
    write_picture("balloon/a.jpg")
    xs, ys = zip(*CORNERS, strict=True)
    regions = [
        dict(name="polygon", all_points_x=xs, all_points_y=ys),
        dict(name="circle", cx=40, cy=20, r=15),
    ]
    entry = dict(filename="a.jpg", regions=[dict(shape_attributes=r) for r in regions])
    (folder / "balloon" / "via_region_data.json").write_text(json.dumps({"a": entry}))
    return dict(folder=folder / "balloon")


def _yolo(folder, write_picture) -> dict:
    write_picture("yolo/images/train/a.jpg")
    labels = folder / "yolo" / "labels" / "train"
    labels.mkdir(parents=True)
    (labels / "a.txt").write_text("1 0.251 0.253 0.757 0.251 0.753 0.519\n0 0 0 1 0 1 1\n")
    (folder / "yolo" / "data.yaml").write_text("train: images/train\nnames: [cat, dog]\n")
    return dict(folder=folder / "yolo")


def _voc(folder, write_picture) -> dict:
    write_picture("voc/JPEGImages/a.jpg")
    ids = (MASK // 255) + 2 * (OTHER // 255)
    write_picture("voc/SegmentationObject/a.png", ids)
    write_picture("voc/SegmentationClass/a.png", ids * 7)
    (folder / "voc" / "Annotations").mkdir()
    (folder / "voc" / "Annotations" / "a.xml").write_text(
        "<annotation><object><name>dog</name><bndbox><xmin>40</xmin><ymin>2</ymin>"
        "<xmax>55</xmax><ymax>20</ymax></bndbox></object></annotation>"
    )
    return dict(folder=folder / "voc")


def _cst(folder, write_picture) -> dict:
    write_picture("cst/train/a/a.jpg")
    write_picture("cst/train/a/masks/a-0.jpg", np.stack([MASK] * 3, -1))
    write_picture("cst/train/b/b.jpg")
    table = folder / "cst" / "annotation" / "anno-train.csv"
    table.parent.mkdir()
    table.write_text(
        "image_id,object_id,class,bbox,mask_path\na,a-0,s,13 2 35 27,a/masks/a-0.jpg\n"
    )
    return dict(folder=folder / "cst")


def _labelme_export(folder, write_picture) -> dict:
    write_picture("export/a_json/img.png")
    write_picture("export/a_json/label.png", MASK // 255 + 2 * (OTHER // 255))
    (folder / "export" / "a_json" / "info.yaml").write_text(
        "label_names:\n- _background_\n- tank1\n- tank2\n"
    )
    return dict(folder=folder / "export")


def _mask_folders(folder, write_picture) -> dict:
    for name in "ab":
        write_picture(f"nuclei/{name}/images/{name}.png")
        write_picture(f"nuclei/{name}/masks/0.png", MASK)
        write_picture(f"nuclei/{name}/masks/1.png", OTHER)
    return dict(folder=folder / "nuclei")


def _penn_fudan(folder, write_picture) -> dict:
    write_picture("penn/PNGImages/a.png")
    write_picture("penn/PedMasks/a_mask.png", MASK // 255 + 2 * (OTHER // 255))
    return dict(folder=folder / "penn")


def _label_images(folder, write_picture) -> dict:
    write_picture("cells/images/a.png")
    write_picture("cells/masks/a.png", MASK // 255 + 2 * (OTHER // 255))
    return dict(folder=folder / "cells")


WRITERS = {
    "cst": _cst,
    "label_images": _label_images,
    "labelme": _labelme,
    "labelme_export": _labelme_export,
    "mask_folders": _mask_folders,
    "penn_fudan": _penn_fudan,
    "via": _via,
    "voc": _voc,
    "yolo": _yolo,
}


def assert_same_records(dataset, copy) -> None:
    assert copy.class_names == dataset.class_names
    assert copy.category_ids == dataset.category_ids
    assert copy.faults == []
    assert len(copy.records) == len(dataset.records)
    for record, again in zip(dataset.records, copy.records, strict=True):
        size = record.height, record.width
        assert (again.height, again.width) == size
        for name in ("boxes", "classes", "crowd", "areas", "annotation_ids"):
            np.testing.assert_array_equal(getattr(again, name), getattr(record, name), name)
        for mask, other in zip(record.segmentations, again.segmentations, strict=True):
            assert isinstance(other, Polygons) == isinstance(mask, Polygons)
            np.testing.assert_array_equal(to_mask(other, *size), to_mask(mask, *size))
        np.testing.assert_array_equal(copy.read_image(again), dataset.read_image(record))


def converted(dataset, tmp_path, **options):
    out = tmp_path / "out" / "instances.json"
    root = convert(dataset, out, **options)
    return coco.read(images=root, annotations=out)


def test_every_format_of_files_has_a_sample_here():
    elsewhere = {"coco", "shapes", "union", "tfds", "tfds_coco"}
    assert set(datasets.READERS) <= set(WRITERS) | elsewhere


@pytest.mark.parametrize("form", WRITERS)
def test_records_of_each_reader_come_back(form, tmp_path, write_picture):
    dataset = datasets.READERS[form](**WRITERS[form](tmp_path, write_picture))
    assert sum(len(record.classes) for record in dataset.records) > 0
    assert_same_records(dataset, converted(dataset, tmp_path))


def test_crowd_regions_and_instances_in_parts(tmp_path, write_picture):
    dataset = datasets.READERS["labelme"](**_labelme(tmp_path, write_picture))
    copy = converted(dataset, tmp_path)
    assert copy.records[0].crowd.tolist() == [True, False]
    assert [len(s.parts) for s in copy.records[0].segmentations] == [1, 2]


def test_generated_images_are_written(tmp_path):
    dataset = shapes.read(count=3, seed=0, size=64)
    with pytest.raises(ValueError, match=r"3 images, such as 0, are no files .* --images-root"):
        convert(dataset, tmp_path / "a.json")
    copy = converted(dataset, tmp_path, images_root=tmp_path / "pictures")
    assert_same_records(dataset, copy)
    assert [record.image_id for record in copy.records] == [0, 1, 2]


def test_a_union_is_numbered_anew(tmp_path, write_picture):
    parts = {
        form: datasets.READERS[form](**WRITERS[form](tmp_path, write_picture))
        for form in ("mask_folders", "yolo")
    }
    dataset = union(parts)
    copy = converted(dataset, tmp_path)
    assert_same_records(dataset, copy)
    assert [record.image_id for record in copy.records] == [1, 2, 3]
    assert all(record.path.startswith(str(tmp_path)) for record in copy.records)


def test_ids_that_pycocotools_cannot_take_are_replaced(write_coco):
    dataset = coco.read(**write_coco([dict(id=0), dict(id=9)]))
    content = coco_json(dataset, ["a.png"])
    assert [entry["id"] for entry in content["annotations"]] == [1, 2]
    dataset = coco.read(**write_coco([dict(id=5), dict(id=9)]))
    assert [entry["id"] for entry in coco_json(dataset, ["a.png"])["annotations"]] == [5, 9]


def test_images_outside_the_given_folder_are_refused(write_coco, tmp_path):
    dataset = coco.read(**write_coco([{}]))
    out = tmp_path / "out.json"
    with pytest.raises(ValueError, match="must hold all images"):
        convert(dataset, out, images_root=tmp_path / "elsewhere")
    assert not out.exists()
    copy = coco.read(images=convert(dataset, out, tmp_path), annotations=out)
    assert json.loads(out.read_text())["images"][0]["file_name"] == "images/a.png"
    assert_same_records(dataset, copy)


def test_the_command_writes_what_training_would_see(tmp_path, write_coco, capsys):
    paths = write_coco([{}, dict(image_id=5), dict(iscrowd=1)])
    out = tmp_path / "new.json"
    given = [f"--{name}={path}" for name, path in paths.items()]
    assert main(["convert", "--format=coco", *given, f"--out={out}"]) == 0
    text = capsys.readouterr().out
    assert "image_id 5" in text
    assert f"--config.data.train.images={paths['images']}" in text
    assert f"--config.data.train.annotations={out}" in text
    copy = coco.read(paths["images"], out)
    assert copy.records[0].crowd.tolist() == [False, True]
    config = "--config.data.on_error=raise"
    assert main(["convert", "--format=coco", *given, config, f"--out={out}.2"]) == 2
    assert "image_id 5" in capsys.readouterr().err


@pytest.mark.parametrize("split", ["train", "val"])
def test_photos_of_coco_come_back(coco_dir, tmp_path, split):
    dataset = coco.read(
        f"{split}2017", f"annotations/instances_{split}2017.json", coco_dir, max_images=60
    )
    assert any(record.crowd.any() for record in dataset.records)
    copy = converted(dataset, tmp_path)
    assert_same_records(dataset, copy)
    assert [r.image_id for r in copy.records] == [r.image_id for r in dataset.records]


@pytest.mark.parametrize("form", ["labelme", "voc"])
def test_photos_of_labelme_come_back(labelme_voc_dir, tmp_path, form):
    dataset = datasets.READERS[form](labelme_voc_dir / form)
    assert sum(len(record.classes) for record in dataset.records) == 12
    assert_same_records(dataset, converted(dataset, tmp_path))
