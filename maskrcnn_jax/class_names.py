"""Classes by their names: of instances, and of two data sets matched."""

from collections.abc import Iterable, Sequence

NO_CLASS = 0  # of a crowd region that may show any class


def names_of(classes: Iterable[int], class_names: Sequence[str]) -> list[str]:
    """Returns the name of each instance's class.

    Args:
        classes: 1..K each, or NO_CLASS.
        class_names: of all K classes.
    """
    return ["any class" if k == NO_CLASS else class_names[k - 1] for k in classes]


def matching(wanted: Sequence[str], given: Sequence[str]) -> list[int | None]:
    """Returns where each of some classes stands among others.

    A class of exactly the same name comes first, then one whose name differs only in upper and
    lower case.

    Args:
        wanted: names.
        given: names.

    Returns:
        For every wanted name its place in `given`, or None.
    """
    # The first of several equal names counts: later ones are overwritten by it.
    exact = {name: i for i, name in reversed(list(enumerate(given)))}
    folded = {name.casefold(): i for i, name in reversed(list(enumerate(given)))}
    return [exact.get(name, folded.get(name.casefold())) for name in wanted]
