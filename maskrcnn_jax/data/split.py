"""Training and validation images of a dataset that does not say which are which."""

import hashlib
import unicodedata
from collections.abc import Iterable


def of_split(names: Iterable[str], split: str, val_fraction: float, seed: int) -> list[str]:
    """Returns the names that belong to a split, in their order.

    Whether an image is one of training or of validation follows from its name and the seed alone,
    by a hash that is the same on every machine. So an image stays where it is when others come or
    go, and the share of validation images is near `val_fraction`, not equal to it.

    Args:
        names: of all images; where they have folders, relative to the dataset's.
        split: "train", "val", or "" for all images.
        val_fraction: share of the validation images, between 0 and 1.
        seed: another one gives another division.

    Raises:
        ValueError: an argument is out of range, or the split has none of the names.
    """
    names = list(names)
    if split not in ("", "train", "val"):
        raise ValueError(f"split is {split!r}; expected 'train' or 'val', or '' for all images")
    if not split:
        return names
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}; expected a number between 0 and 1")
    wanted = [n for n in names if (position(n, seed) < val_fraction) == (split == "val")]
    if not wanted:
        raise ValueError(
            f"split {split!r} has none of the {len(names)} images at val_fraction={val_fraction} "
            f"and split_seed={seed}; {_way_out(names, val_fraction)}"
        )
    return wanted


def _way_out(names: list[str], val_fraction: float) -> str:
    """Returns what to change where the images are so few that a split has none."""
    names = names[:1000]  # of so many, any sensible fraction has some
    for seed in range(100):
        if 0 < sum(position(name, seed) < val_fraction for name in names) < len(names):
            return f"with split_seed={seed}, given to train and val alike, both have some"
    return "change val_fraction, for train and val alike, or give split='' to use all for both"


def position(name: str, seed: int) -> float:
    """Returns where in [0, 1) a name falls: its hash, the same on every machine.

    Args:
        name: of an image; where it has folders, relative to the dataset's.
        seed: another one gives another place.
    """
    # One form of separators and accents: macOS writes the latter apart from their letters.
    name = unicodedata.normalize("NFC", name.replace("\\", "/"))
    digest = hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
