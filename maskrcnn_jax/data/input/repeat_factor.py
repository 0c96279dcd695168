"""How often an epoch has each image, so that rare classes are seen more: repeat-factor sampling.

Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation" (CVPR 2019).
"""

from collections.abc import Sequence

import numpy as np


def repeat_factors(classes_of_samples: Sequence[np.ndarray], threshold: float) -> np.ndarray:
    """Returns how often each sample is wanted in an epoch, on average.

    A class that a share f of the samples shows has the factor max(1, sqrt(threshold / f)); a sample
    has the largest factor of its classes, or 1 where it shows none.

    Args:
        classes_of_samples: of each of N samples, the classes of the objects that it shows, ints.
        threshold: the share below which a class is repeated.

    Returns:
        [N] float64, at least 1.
    """
    num_samples = len(classes_of_samples)
    classes = np.concatenate([np.zeros(0, np.int64), *classes_of_samples]).astype(np.int64)
    samples = np.repeat(np.arange(num_samples), [len(of) for of in classes_of_samples])
    # Each pair of a sample and a class once, as one number: LVIS has over a million.
    base = classes.max(initial=0) + 1
    samples, classes = np.divmod(np.unique(samples * base + classes), base)
    share = np.bincount(classes, minlength=base) / max(num_samples, 1)
    factors = np.ones(num_samples)
    np.maximum.at(factors, samples, np.sqrt(threshold / share[classes]))
    return factors


def counts_length(factors: np.ndarray) -> int:
    """Returns the sum of the counts that `draw_counts` gives, whatever it draws."""
    whole = np.floor(factors)
    return int(whole.sum()) + round(float((factors - whole).sum()))


def most_of_one(factors: np.ndarray) -> int:
    """Returns a bound that no count of `draw_counts` exceeds."""
    highest = float(factors.max(initial=1))
    return 1 if highest == 1 else int(highest) + 2


def draw_counts(factors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns how often each sample comes in one epoch.

    The whole part of a factor is certain, the fraction is the probability of one more. To give all
    epochs the same length, the fractions are laid end to end, in a random order, and read at equal
    distances from a random start (systematic sampling). The number of readings is the sum of the
    fractions, rounded, so probabilities are off by at most the rounding's fraction of that sum.

    Args:
        factors: [n] float64, at least 1.
        rng: left as it is where no factor has a fraction.

    Returns:
        [n] int64, with the sum `counts_length(factors)`.
    """
    whole = np.floor(factors)
    fractions, counts = factors - whole, whole.astype(np.int64)
    extra = counts_length(factors) - int(counts.sum())
    if extra:
        order = rng.permutation(len(factors))
        ends = np.cumsum(fractions[order])
        places = (rng.random() + np.arange(extra)) * (ends[-1] / extra)
        # Rounding may put the last place on the end itself.
        read = np.minimum(np.searchsorted(ends, places, side="right"), len(ends) - 1)
        np.add.at(counts, order[read], 1)
    return counts
