import numpy as np
import pytest
from pycocotools import mask as coco_mask

from maskrcnn_jax.data.masks import rle


def test_worked_by_hand():
    # 3 x 2, column after column: 0 1 1 | 1 0 0, runs 1 3 2; a digit d of one group is chr(48 + d).
    assert rle.run_lengths(b"132").tolist() == [1, 3, 2]
    np.testing.assert_array_equal(rle.decode_columns(b"132", 3, 0, 2), [[0, 1], [1, 0], [1, 0]])
    np.testing.assert_array_equal(rle.decode_columns(b"132", 3, 1, 2), [[1], [0], [0]])
    # From the fourth on, differences from the length two before: 1 3 2 (3 - 1) is 1 3 2 2.
    assert rle.run_lengths(b"132O").tolist() == [1, 3, 2, 2]


def test_agrees_with_pycocotools():
    rng = np.random.default_rng(0)
    for trial in range(300):
        mask = (rng.random(rng.integers(1, 40, 2)) < rng.random()).astype(np.uint8)
        if trial % 2:
            mask = np.kron(mask, np.ones(rng.integers(1, 50, 2), np.uint8))
        height, width = mask.shape
        text = coco_mask.encode(np.asfortranarray(mask))["counts"]
        first, end = sorted(rng.integers(0, width + 1, 2))
        np.testing.assert_array_equal(
            rle.decode_columns(text, height, first, end), mask[:, first:end]
        )
        counts = rle.run_lengths(text).tolist()
        assert rle.compress(counts, height, width) == text
        assert rle.compress(text.decode(), height, width) == text


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([10, 5], "add up to 15"),
        ([2, 40], "add up to 42"),
        ([], "add up to 0"),
        ([-5, 25], "negative"),
        ([10.0, 10.0], "neither"),
        ([2**64, 20], "neither"),
        (None, "neither"),
        ("", "cut short"),
        ("132P", "cut short"),
        ("132\n", "not in COCO's code"),
        ("PPPPPPPPPPPP1", "32 bits"),
        ("1", "add up to 1"),
    ],
)
def test_refuses_what_is_no_mask_of_the_size(counts, reason):
    with pytest.raises(ValueError, match=reason):
        rle.compress(counts, 4, 5)


def test_refuses_to_decode_beyond_the_last_run():
    with pytest.raises(ValueError, match="end before column 3"):
        rle.decode_columns(b"132", 3, 0, 3)
