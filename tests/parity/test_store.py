"""How reference values are stored."""

from pathlib import Path

import numpy as np

from tests.parity import store

VALUES = Path(__file__).parent / "values"


def test_what_is_written_is_read(tmp_path):
    values = {
        "half": np.array([[1.5, np.nan]], np.float16),
        "count": np.array(3),
        "a.0": np.ones(2),
    }
    store.write(tmp_path / "sub" / "some.npz", {"seed": 1}, values)
    with np.load(tmp_path / "sub" / "some.npz") as read:
        assert set(read.files) == {"meta", *values}
        assert str(read["meta"]) == '{"seed": 1}'
        for name, array in values.items():
            assert read[name].dtype == array.dtype
            np.testing.assert_array_equal(read[name], array)


def test_the_clone_stays_small():
    files = list(VALUES.glob("*.npz"))
    assert len(files) > 10
    assert sum(file.stat().st_size for file in files) <= 3e6
