"""Shapes of labelme, VIA and YOLO in random disorder: no object is lost in silence."""

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn_jax.data.formats import labelme, via, yolo

JUNK = st.sampled_from([None, "", "x", -1, 1.5, True, [], {}, [[]], [None], 10**30, "7"])
NUMBERS = st.one_of(st.integers(-30, 90), st.floats(), st.just("12.5"), JUNK)
POINTS = st.one_of(
    JUNK,
    st.lists(st.lists(NUMBERS, min_size=1, max_size=3), max_size=5),
    st.just([[10, 5], [30, 5], ["30", 25.0], [10, 25]]),
)
LABELS = st.one_of(JUNK, st.sampled_from(["cat", "dog", "cow", 3]))
KINDS = st.one_of(
    JUNK, st.sampled_from(["polygon", "rectangle", "circle", "mask", "point", "line", "ellipse"])
)
SETTINGS = settings(derandomize=True, max_examples=150, deadline=None)


def folder_with(name: str, content: object) -> tempfile.TemporaryDirectory:
    """Returns a folder with an image a.png of 40 x 60 pixels and a JSON file."""
    folder = tempfile.TemporaryDirectory()
    Image.new("L", (60, 40)).save(Path(folder.name, "a.png"))
    Path(folder.name, name).write_text(json.dumps(content))
    return folder


def accounted(dataset) -> int:
    """The objects of the only image, and those that are named as left out."""
    (record,) = dataset.records
    left_out = sum(fault.count for fault in dataset.faults if fault.severity == "error")
    ignored = sum(f.objects for f in dataset.faults if f.severity == "warning")
    assert int(record.crowd.sum()) <= ignored
    return len(record.classes) + left_out


@SETTINGS
@given(
    st.lists(
        st.one_of(JUNK, st.fixed_dictionaries(dict(label=LABELS, shape_type=KINDS, points=POINTS))),
        max_size=5,
    )
)
def test_labelme(shapes):
    content = dict(shapes=shapes, imagePath="a.png", imageHeight=40, imageWidth=60)
    with folder_with("a.json", content) as folder:
        dataset = labelme.read(folder, class_names=("cat", "dog"), ignore=())
    assert accounted(dataset) == len(shapes)


@SETTINGS
@given(
    st.lists(
        st.one_of(
            JUNK,
            st.fixed_dictionaries(
                dict(
                    shape_attributes=st.one_of(
                        JUNK,
                        st.fixed_dictionaries(
                            dict(name=st.sampled_from(["polygon", "rect", "circle", "ellipse"])),
                            optional=dict(
                                all_points_x=st.one_of(JUNK, st.lists(NUMBERS, max_size=4)),
                                all_points_y=st.one_of(JUNK, st.lists(NUMBERS, max_size=4)),
                            )
                            | {
                                key: NUMBERS
                                for key in ("x", "y", "width", "height", "cx", "cy", "r", "rx")
                            },
                        ),
                    ),
                    region_attributes=st.one_of(JUNK, st.dictionaries(st.just("kind"), LABELS)),
                )
            ),
        ),
        max_size=5,
    )
)
def test_via(regions):
    content = {"a.png1": dict(filename="a.png", regions=regions)}
    with folder_with("via_region_data.json", content) as folder:
        dataset = via.read(folder, class_attribute="kind", class_names=("cat", "dog"))
        via.read(folder)
    assert accounted(dataset) == len(regions)


@SETTINGS
@given(
    st.lists(
        st.lists(
            st.one_of(st.integers(-1, 3), st.floats(), st.floats(0, 1), st.sampled_from("x-")),
            min_size=1,
            max_size=9,
        ),
        max_size=5,
    )
)
def test_yolo(lines):
    with folder_with("other.json", {}) as folder:
        text = "\n".join(" ".join(map(str, line)) for line in lines)
        Path(folder, "a.txt").write_text(text)
        dataset = yolo.read(folder, images=".", class_names=("cat", "dog"))
    assert accounted(dataset) == len(lines)
