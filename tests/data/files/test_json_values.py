"""Numbers and ids out of JSON, however they are written."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn_jax.data.files.json_values import Ids, as_id, number, size_of, whole


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.integers(-(10**15), 10**15))
def test_a_whole_number_is_what_it_says(value):
    for written in (value, float(value), str(value), f" {value}", f"{value}.0", f"{value}."):
        assert whole(written) == value


@pytest.mark.parametrize(
    "value", [None, True, 1.5, "1.5", "one", "", [1], math.nan, math.inf, "1e3", "0x1", "\u0663"]
)
def test_what_is_no_whole_number(value):
    assert whole(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1.0), ("2.5", 2.5), ("-3e2", -300.0), (1e8, 1e8)]
    + [(v, None) for v in (True, None, "x", [1], math.nan, math.inf, "nan", 10**400, 1e12)],
)
def test_finite_numbers_of_sensible_size(value, expected):
    assert number(value) == expected


def test_sizes():
    assert size_of("48", 64.0) == (48, 64)
    assert size_of(None, None) is None
    assert size_of(0, 0.0) is None
    assert size_of("", "") is None
    assert size_of(0, 64) == (0, 64)
    assert size_of("x", 64) == ("x", 64)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 50), min_size=1), st.booleans())
def test_ids_are_found_by_either_type(ids, as_text):
    listed = [str(i) if as_text else i for i in ids]
    table = Ids(listed)
    for i, kept in zip(ids, listed, strict=True):
        for written in (i, float(i), str(i)):
            assert table.find(written) == kept
    assert table.find(99) is None


def test_ids_that_could_mean_two():
    table = Ids([1, "1", "01", "x"])
    assert [table.find(value) for value in (1, "1", 1.0, "01", "001", "x", "y")] == [
        1, "1", 1, "01", None, "x", None,
    ]  # fmt: skip
    assert as_id(True) is as_id(None) is as_id([1]) is None
