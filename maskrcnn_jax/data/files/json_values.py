"""Numbers and ids out of JSON files, by what they say and not by how they are written.

Programs write a whole number as 1, 1.0 or "1": pandas makes floats of a column with a gap, VIA and
CVAT write ids as text.
"""

import re
from collections.abc import Iterable
from typing import Any

_WHOLE = re.compile(r"\s*([+-]?[0-9]{1,18})(\.0*)?\s*")
_MOST = 1e9  # beyond any image; also refuses NaN, infinity, and numbers too large for a float


def whole(value: Any) -> int | None:
    """Returns the whole number that a value says, 1 for 1, 1.0 and "1"; None if it says none."""
    if type(value) is int:
        return value
    if type(value) is float:
        return int(value) if value.is_integer() else None
    match = _WHOLE.fullmatch(value) if isinstance(value, str) else None
    return int(match[1]) if match else None


def number(value: Any) -> float | None:
    """Returns the finite number of sensible size that a value says; None if it says none."""
    if type(value) is not float:  # the most frequent one, which costs nothing
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                return None
        elif type(value) is not int:
            return None
    return float(value) if -_MOST <= value <= _MOST else None


def size_of(height: Any, width: Any) -> tuple[Any, Any] | None:
    """Returns an image's height and width, whole where they say so; None where they are unknown.

    Programs that could not open an image write nothing, or 0 for both.
    """
    size = _whole_or_as_given(height), _whole_or_as_given(width)
    return None if size in ((None, None), (0, 0), ("", "")) else size


def _whole_or_as_given(value: Any) -> Any:
    number = whole(value)
    return value if number is None else number


def as_id(value: Any) -> int | str | None:
    """Returns an id as it is kept: a whole number, or text; None if it is neither."""
    return value if isinstance(value, str) else whole(value)


class Ids:
    """Finds ids whose type differs between two lists of a file: "0" beside 0.

    Where ids of both types mean different things, as 1 beside "1", each finds its own alone.
    """

    def __init__(self, ids: Iterable[int | str]):
        """Takes the ids of the list that is looked in."""
        self._exact = set(ids)
        self._by_number: dict[int, int | str | None] = {}
        for given in self._exact:
            key = whole(given)
            if key is not None:
                self._by_number[key] = None if key in self._by_number else given

    def find(self, value: Any) -> int | str | None:
        """Returns the id that a value means; None if it is not in the list, or may mean two."""
        key = as_id(value)
        if key is None or key in self._exact:
            return key
        named = whole(value)
        return None if named is None else self._by_number.get(named)
