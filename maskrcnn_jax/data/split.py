"""Training and validation images of a dataset that does not say which are which."""

import hashlib
import unicodedata
from collections.abc import Iterable


def of_split(names: Iterable[str], split: str, val_fraction: float, seed: int) -> list[str]:
    """Returns the names that belong to a split, in their order.

    Whether an image is one of training or of validation follows from its name and the seed alone,
    by a hash that is the same on every machine. So an image stays where it is when others come or
    go, and the fraction of validation images is near `val_fraction`, not equal to it. From few
    images neither split is left empty: that of the lowest hash is for validation, or that of the
    highest for training.

    Args:
        names: of all images; where they have folders, relative to the dataset's.
        split: "train", "val", or "" for all images.
        val_fraction: fraction of the validation images, between 0 and 1.
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
    val = _validation(names, val_fraction, seed)
    wanted = [name for name in names if (name in val) == (split == "val")]
    if not wanted:
        raise ValueError(
            f"split {split!r} has none of the {len(names)} images at val_fraction={val_fraction} "
            f"and split_seed={seed}; give split='' to use all for both train and val"
        )
    return wanted


def _validation(names: list[str], fraction: float, seed: int) -> set[str]:
    """Returns the names of validation: hashes below a fraction, and of two images or more, one."""
    ordered = sorted(set(names), key=lambda name: (position(name, seed), name))
    count = sum(position(name, seed) < fraction for name in ordered)
    if len(ordered) > 1:
        count = min(max(count, 1), len(ordered) - 1)
    return set(ordered[:count])


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
