"""Random numbers of augmentation: of the image alone, and apart for each kind."""

import itertools

import numpy as np
import pytest

from maskrcnn_jax.data.augment.random_streams import _KINDS, Streams


def test_the_same_image_draws_the_same():
    for kind in _KINDS:
        one, two = (Streams(3, 1, 7).of(kind).random(5) for _ in range(2))
        np.testing.assert_array_equal(one, two)


def test_seeds_epochs_images_and_kinds_draw_apart():
    streams = [
        Streams(*numbers, pasted)
        for numbers in itertools.product((0, 1, 2**40), (0, 1), (0, 1))
        for pasted in (False, True)
    ]
    first = {(s, kind): s.of(kind).random() for s in streams for kind in _KINDS}
    assert len(set(first.values())) == len(streams) * len(_KINDS)
    # Nor are they the sampler's, whose fourth number is 1 or 2.
    order = {np.random.default_rng([0, 0, 0, purpose]).random() for purpose in (1, 2)}
    assert not order & set(first.values())


@pytest.mark.parametrize("seed", [0, 5, 2**40])
def test_flips_are_seeded_by_seed_epoch_and_image_alone(seed):
    expected = np.random.default_rng([seed, 2, 9]).random()
    assert Streams(seed, 2, 9).of("flip").random() == expected


def test_kinds_have_numbers_of_their_own():
    assert len(set(_KINDS.values())) == len(_KINDS)
    assert not {1, 2} & set(_KINDS.values())
