"""Repeat factors worked by hand, and what the draws of each epoch must keep."""

import numpy as np
import pytest

from maskrcnn_jax.data.input.repeat_factor import (
    counts_length,
    draw_counts,
    most_of_one,
    repeat_factors,
)

MIXED = np.array([1, 1.5, 1.25, 2, 3.75, 1.9, 1, 1.3])


def test_factors_by_hand():
    # Of 16 images 15 show class 1, four class 2, one class 3 (twice), and one shows nothing.
    classes = (
        [np.array([1])] * 10 + [np.array([1, 2])] * 4 + [np.array([3, 1, 3]), np.array([], int)]
    )
    factors = repeat_factors(classes, 0.5625)
    # sqrt(0.5625 / (15/16)) < 1; sqrt(0.5625 / (4/16)) = 1.5; sqrt(0.5625 / (1/16)) = 3.
    np.testing.assert_allclose(factors, [1] * 10 + [1.5] * 4 + [3, 1])
    np.testing.assert_array_equal(repeat_factors(classes, 0.05), np.ones(16))
    np.testing.assert_array_equal(repeat_factors([np.array([], int)], 1.0), [1])


def test_every_draw_has_the_same_length_and_at_least_the_whole_parts():
    assert counts_length(MIXED) == 11 + 3  # the fractions sum to 2.7
    for seed in range(200):
        counts = draw_counts(MIXED, np.random.default_rng(seed))
        assert counts.sum() == 14
        assert np.all(counts >= np.floor(MIXED))
        assert np.all(counts[[0, 3, 6]] == [1, 2, 1])  # without a fraction: never one more
        assert counts.max() <= most_of_one(MIXED)


def test_fractions_are_probabilities():
    rng = np.random.default_rng(0)
    draws = np.mean([draw_counts(MIXED, rng) for _ in range(20_000)], 0)
    # Three more are drawn where the fractions sum to 2.7; 0.015 is four standard errors.
    fractions = MIXED - np.floor(MIXED)
    np.testing.assert_allclose(draws, np.floor(MIXED) + fractions * 3 / 2.7, atol=0.015)


def test_neighbours_are_drawn_together_as_often_as_others():
    factors = np.full(6, 1.5)
    rng = np.random.default_rng(0)
    extra = np.array([draw_counts(factors, rng) - 1 for _ in range(20_000)])
    together = extra.T @ extra / len(extra)
    # Three of six: any two are both chosen with probability 3/6 x 2/5.
    np.testing.assert_allclose(together[~np.eye(6, dtype=bool)], 0.2, atol=0.015)


@pytest.mark.parametrize("factors", [np.ones(5), np.array([1, 3, 2.0])])
def test_whole_factors_need_no_random_numbers(factors):
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(draw_counts(factors, rng), factors)
    assert rng.random() == np.random.default_rng(0).random()
    assert draw_counts(np.array([1.5]), np.random.default_rng(0)) in (1, 2)


def test_only_repeats_need_more_than_one_number_an_image():
    assert most_of_one(np.ones(3)) == 1
    assert most_of_one(np.array([1, 1.1])) == 3
