from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn_jax.config import get_config
from maskrcnn_jax.data import check
from maskrcnn_jax.data.config import DataConfig
from maskrcnn_jax.data.faults import Fault
from maskrcnn_jax.data.formats import coco, shapes
from maskrcnn_jax.data.masks.segmentation import RLE
from maskrcnn_jax.data.records import Dataset, Instance, make_record
from maskrcnn_jax.faults import FaultKind
from maskrcnn_jax.images.pixels import PixelFormat


@pytest.fixture
def dataset(write_coco):
    """Images 0 to 5, of which 1 is missing, 2 truncated, 3 of another size and 4 no image."""
    images = [dict(id=i, file_name=f"{i}.jpg", height=40, width=60) for i in range(6)]
    paths = write_coco([dict(image_id=i) for i in range(6)], images)
    for i in (0, 2, 3, 5):
        noise = np.random.default_rng(i).integers(0, 256, (40, 60 + (i == 3), 3), dtype=np.uint8)
        Image.fromarray(noise).save(paths["images"] / f"{i}.jpg")
    truncated = paths["images"] / "2.jpg"
    truncated.write_bytes(truncated.read_bytes()[:1000])
    (paths["images"] / "4.jpg").write_text("no image")
    return coco.read(**paths)


def errors(faults) -> dict:
    return {fault.image_id: fault.reason for fault in faults if fault.severity == "error"}


def test_headers_tell_most_and_decoding_tells_all(dataset):
    found = errors(check.check(dataset))
    assert sorted(found) == [1, 3, 4]
    assert "No such file" in found[1]
    assert "the image is 40 x 61" in found[3]
    assert found[4].startswith("it is not a readable image")
    found = errors(check.check(dataset, decode=True))
    assert sorted(found) == [1, 2, 3, 4]
    assert found[2].startswith("it is not a readable image, or is truncated")


def test_limit_spreads_over_the_images(dataset):
    assert sorted(errors(check.check(dataset, limit=2))) == []  # the first and the last
    assert sorted(errors(check.check(dataset, limit=3))) == []  # and number 2, whose header is fine
    assert sorted(errors(check.check(dataset, limit=6))) == [1, 3, 4]


def test_a_long_list_of_faults_is_written_whole(dataset, tmp_path):
    many = [Fault("a.json", f"fault number {i}", FaultKind.BOX, "warning") for i in range(30)]
    lines, listing = [], tmp_path / "run" / "faults.txt"
    data = DataConfig()
    check.checked(replace(dataset, faults=many), data, listing, lines.append)
    assert f"more; all are listed in {listing}" in lines[0]
    assert all(fault.reason in listing.read_text() for fault in many)


def test_checked_leaves_out_or_raises(dataset):
    data = get_config().data
    lines = []
    kept = check.checked(dataset, data, log=lines.append)
    assert [record.image_id for record in kept.records] == [0, 2, 5]
    (text,) = lines
    assert text.startswith("instances: 6 images (0 without objects, at most 1 in one), 6 instances")
    assert "3 errors, 1 warning" in text
    assert "1.jpg" in text
    data.on_error = "raise"
    with pytest.raises(ValueError, match=r"(?s)3 faults in the dataset.*1\.jpg.*4\.jpg"):
        check.checked(dataset, data, log=lines.append)
    data.on_error = "skip"
    nothing = replace(dataset, records=dataset.records[3:5])
    with pytest.raises(ValueError, match=r"has no usable image; first .+: "):
        check.checked(nothing, data, log=lines.append)


def test_pixel_limit(dataset):
    assert sorted(errors(check.check(dataset, max_pixels=2399))) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "changes",
    [
        dict(boxes=np.array([[10, 5, np.nan, 25]], np.float32)),
        dict(boxes=np.array([[10, 5, 61, 25]], np.float32)),
        dict(boxes=np.array([[10, 5, 10, 25]], np.float32)),
        dict(boxes=np.zeros((0, 4), np.float32)),
        dict(classes=np.array([0], np.int32)),
        dict(classes=np.array([3], np.int32)),
        dict(areas=np.zeros(2, np.float32)),
        dict(annotation_ids=np.zeros(2, np.int64)),
    ],
)
def test_records_of_any_reader_are_checked(dataset, changes):
    record = replace(dataset.records[0], **changes)
    faults = check.check(replace(dataset, records=[record]))
    assert list(errors(faults)) == [0]


def test_box_that_is_not_that_of_its_mask_is_a_warning(write_coco):
    size = dict(size=[40, 60], counts=[405, 20, 1975])
    faults = check.check(
        coco.read(
            **write_coco(
                [
                    {},
                    dict(bbox=[0.1, 0.1, 0.5, 0.5]),
                    dict(segmentation=size),
                    dict(segmentation=size, bbox=[10, 5, 1, 20], category_id=90),
                ]
            )
        )
    )
    assert [fault.severity for fault in faults] == ["warning", "warning"]
    assert [fault.where[-14:] for fault in faults] == ["annotation 101", "annotation 102"]
    assert "hardly agree" in faults[0].reason


def test_classes_without_instances_are_a_warning(write_coco):
    (fault,) = check.check(coco.read(**write_coco([{}])))
    assert fault.reason == "no instance of 1 of its classes: dog"
    assert fault.severity == "warning"


def test_generated_images_have_no_files_to_check():
    dataset = shapes.read(20, seed=0)
    assert check.check(dataset, decode=True) == []
    assert "20 images" in check.report(dataset, [])


def test_report_counts_what_it_does_not_list(dataset):
    faults = check.check(dataset)
    lines = check.report(dataset, faults, most=2).splitlines()
    assert len(lines) == 5
    assert lines[1].startswith("  WARNING: 3 of 6 objects (50%) cannot be learned")
    assert lines[2].startswith("  error: ")
    assert lines[-1] == "  and 2 more"


def test_splits_of_other_classes_are_refused(write_coco):
    train = coco.read(**write_coco())
    val = replace(train, class_names=("dog", "cat"))
    check.check_same_classes(train, replace(train, category_ids=(1, 2)))
    with pytest.raises(ValueError, match=r"the classes cat, dog; .* have dog, cat\. Both need"):
        check.check_same_classes(train, val)


def test_objects_lost_are_told_loudly_from_more_than_a_fifth_on(write_coco):
    ignored = dict(segmentation=[])
    few = coco.read(**write_coco([{}] * 4 + [ignored]))
    assert "WARNING" not in check.report(few, few.faults)
    many = coco.read(**write_coco([{}] * 3 + [ignored] + [dict(image_id=9)]))
    assert "WARNING: 2 of 5 objects (40%)" in check.report(many, many.faults)


def test_nothing_to_learn_stops_with_the_first_reason(write_coco):
    for annotations in ([], [dict(iscrowd=1)], [dict(segmentation=[])]):
        dataset = coco.read(**write_coco(annotations))
        with pytest.raises(ValueError, match="no object: nothing can be learned"):
            check.check_objects(dataset)
    with pytest.raises(ValueError, match=r"0 crowd regions .*; first .*: its image_id 9"):
        check.check_objects(coco.read(**write_coco([dict(image_id=9)])))
    check.check_objects(coco.read(**write_coco([{}, dict(iscrowd=1)])))


def test_crowd_regions_are_no_objects_of_their_class(write_coco):
    dataset = coco.read(**write_coco([{}, dict(category_id=90, iscrowd=1)]))
    (fault,) = check.check(dataset)
    assert fault.reason == "no instance of 1 of its classes: dog"


@pytest.mark.parametrize("top", [3_500, 40_000])
def test_images_of_twelve_bits_read_as_eight_are_told(write_coco, top):
    paths = write_coco([{}])
    pixels = np.full((40, 60), 300, np.uint16)
    pixels[0, 0] = top
    Image.fromarray(pixels).save(paths["images"] / "a.png")
    dataset = coco.read(**paths)
    found = [fault for fault in check.check(dataset) if fault.kind == "range of the image's values"]
    assert len(found) == (top < 2**15)
    if found:
        assert found[0].severity == "warning"
        assert "values from 300 to 3500 of 65535, so 13 of 256 levels" in found[0].reason
        assert "data.depth=16" in found[0].reason
    for wanted in (PixelFormat(1, 16), PixelFormat(percentiles=(1.0, 99.8))):
        faults = check.check(dataset, wanted=wanted)
        assert not any(fault.kind == "range of the image's values" for fault in faults)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("odx"), max_size=4), min_size=1, max_size=4))
def test_nothing_to_learn_is_an_error_and_much_lost_is_loud(images):
    """Of sound objects, crowd regions of unknown classes (x) and of known ones (d)."""
    records, faults = [], []
    for number, kinds in enumerate(images):
        found = [
            Instance((1, 1, 9, 9), int(k != "x"), k != "o", RLE((10, 10), b""), 0, 64.0)
            for k in kinds
        ]
        records.append(make_record(number, f"{number}.png", 10, 10, found))
        odd = (Fault(f"{number}", "odd", FaultKind.CLASS, "warning", objects=1) for k in kinds)
        faults += [fault for fault, k in zip(odd, kinds, strict=True) if k != "o"]
    dataset = Dataset("a", ("cat",), (1,), records, read_image=None, faults=faults)
    whole = sum(kinds.count("o") for kinds in images)
    lost = sum(map(len, images)) - whole
    assert ("WARNING" in check.report(dataset, faults)) == (lost > 0.2 * (lost + whole))
    if whole:
        check.check_objects(dataset)
    else:
        with pytest.raises(ValueError, match="nothing can be learned"):
            check.check_objects(dataset)


def test_the_objects_of_one_image_are_bounded(monkeypatch, write_coco):
    monkeypatch.setattr(check, "MAX_INSTANCES", 2)
    dataset = coco.read(**write_coco([{}, {}]))
    assert [fault for fault in check.check(dataset) if fault.severity == "error"] == []
    (fault,) = (f for f in check.check(coco.read(**write_coco([{}] * 3))) if f.severity == "error")
    assert (fault.image_id, fault.objects) == (7, 3)
    assert "it has 3 objects, more than the 2 that an image may have: cut it" in fault.reason
