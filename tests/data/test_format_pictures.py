"""The pictures on the formats' pages."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from maskrcnn_jax.data import datasets

FORMATS = Path(__file__).resolve().parents[2] / "docs" / "formats"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("pictures", FORMATS / "pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_shows_a_small_picture():
    for form in datasets.READERS:
        page = (FORMATS / f"{form}.md").read_text()
        (name,) = re.findall(r"!\[\w+\]\((images/\w+\.jpg)\)", page)
        assert 5_000 < (FORMATS / name).stat().st_size <= 120_000


def test_each_format_is_written_read_without_faults_and_drawn(script, tmp_path):
    for name, columns in script.GENERATED.items():
        if name == "tfds":  # tests of its own, and a second to write
            continue
        folder = tmp_path / name
        folder.mkdir()
        found = columns(folder)
        assert len(found) >= 2
        assert all(picture.shape == (script.SIZE, script.SIZE, 3) for _, picture in found)
        _, last = found[-1]
        assert not np.array_equal(last, found[0][1])


def test_outlines_keep_the_shape(script):
    mask = np.zeros((40, 60), np.uint8)
    mask[5:25, 10:30] = 1
    corners = script._outline(mask)
    assert len(corners) == 4
    assert corners.min(0).tolist() == [10.5, 5.5]
    assert corners.max(0).tolist() == [29.5, 24.5]
