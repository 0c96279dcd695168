"""COCO's annotations in random disorder: nothing is raised, and no object is lost in silence."""

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn_jax.data import check
from maskrcnn_jax.data.formats import coco

SQUARE = [10, 5, 30, 5, 30, 25, 10, 25]
JUNK = st.sampled_from(
    [None, "", "x", -1, 0, 1.5, True, False, [], {}, [[]], [None], "1e9", 10**30, {"size": 1}]
)
BOXES = st.one_of(
    JUNK,
    st.lists(st.one_of(st.integers(-9, 70), st.floats(), st.just("5")), min_size=3, max_size=5),
    st.just([10, 5, 20, 20]),
)
MASKS = st.one_of(
    JUNK,
    st.just([SQUARE]),
    st.just(SQUARE),
    st.lists(st.lists(st.integers(-20, 80), max_size=9), max_size=3),
    st.lists(st.one_of(st.floats(), st.text(max_size=2)), max_size=9),
    st.fixed_dictionaries(
        dict(
            size=st.sampled_from([[40, 60], ["40", 60.0], [60, 40], None]),
            counts=st.one_of(st.just([405, 20, 1975]), st.lists(st.integers(-3, 2400)), st.text()),
        )
    ),
)
ENTRIES = st.one_of(
    JUNK,
    st.fixed_dictionaries(
        dict(bbox=BOXES, segmentation=MASKS),
        optional=dict(
            id=st.one_of(JUNK, st.integers(1, 3)),
            image_id=st.one_of(JUNK, st.sampled_from([7, "7", 7.0])),
            category_id=st.one_of(JUNK, st.sampled_from([1, "1", 1.0])),
            iscrowd=JUNK,
            area=JUNK,
        ),
    ).map(lambda entry: dict(image_id=7, category_id=1) | entry),
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(ENTRIES, min_size=1, max_size=6))
def test_each_annotation_is_an_object_ignored_or_named(entries):
    content = dict(
        images=[dict(id=7, file_name="a.png", height=40, width=60)],
        annotations=entries,
        categories=[dict(id=1, name="cat")],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.json")
        path.write_text(json.dumps(content))
        dataset = coco.read(folder, path)
    (record,) = dataset.records
    left_out = [f for f in dataset.faults if f.severity == "error" and f.objects]
    assert len(record.classes) + sum(fault.objects for fault in left_out) == len(entries)
    # What is kept passes every check of records: boxes in the image, classes known.
    assert check._check_instances(record, 1) == [
        fault for fault in check._check_instances(record, 1) if fault.severity == "warning"
    ]
    ignored = sum(f.objects for f in dataset.faults if f.severity == "warning")
    marked = sum(isinstance(e, dict) and e.get("iscrowd") is True for e in entries)
    assert int(record.crowd.sum()) <= ignored + marked
    assert len(set(record.annotation_ids.tolist())) == len(record.classes)
    assert all(len(fault.reason) < 400 for fault in dataset.faults)
