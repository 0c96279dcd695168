"""Classes of two data sets, matched by their names."""

from collections.abc import Sequence


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
