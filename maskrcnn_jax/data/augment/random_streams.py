"""The random numbers of augmentation: closed formulas of the seed, the epoch and the image."""

from dataclasses import dataclass

import numpy as np

# The fourth number of a seed, so that no two purposes share random numbers; the sampler has 1 and
# 2. A kind keeps its number for ever: results of a seed depend on it.
_KINDS = {
    "flip": 0,
    "vertical_flip": 3,
    "quarter_turns": 4,
    "rotate": 5,
    "short_side": 6,
    "scale": 7,
    "crop": 8,
    "brightness": 9,
    "contrast": 10,
    "saturation": 11,
    "hue": 12,
    "grey": 13,
    "blur": 14,
    "noise": 15,
    "copy_paste": 16,
}


@dataclass(frozen=True, slots=True)
class Streams:
    """One image's random numbers in one epoch: a generator for each kind of augmentation.

    They do not depend on the process, nor on what was drawn before: switching one kind on leaves
    the draws of the others as they were.

    Attributes:
        seed: of the run.
        epoch: how often the image was seen before.
        index: of the image among those of training.
        pasted: whether they are for the other image, of which objects are pasted into this one.
    """

    seed: int
    epoch: int
    index: int
    pasted: bool = False

    def of(self, kind: str) -> np.random.Generator:
        """Returns the generator of one kind of augmentation, at its beginning."""
        numbers = [self.seed, self.epoch, self.index]
        if self.pasted:
            return np.random.default_rng([*numbers, _KINDS[kind], 1])
        # numpy takes three numbers for four of which the last is 0, unless one has over 32 bits.
        return np.random.default_rng([*numbers, _KINDS[kind]] if _KINDS[kind] else numbers)
