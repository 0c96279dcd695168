"""Keypoints in COCO's annotations and in labelme's, in the order in which the model has them.

Records hold them as [P, 3] float32: x and y in pixels of the image, whose first reaches from 0 to
1, and how well they are known: 0 not at all (x and y are 0 then), 1 though hidden, 2 seen.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskrcnn_jax.data.files.json_values import number, whole
from maskrcnn_jax.faults import FaultError, FaultKind
from maskrcnn_jax.keypoint_set import HALF_PIXEL, empty_keypoints

HIDDEN = "hidden"  # the flag of labelme's points that are known though they are not seen


def columns_of(
    categories: Sequence[Mapping[str, Any]], names: Sequence[str], source: str
) -> dict[int, list[int]]:
    """Returns which of a category's keypoints each wanted one is, by the category's id.

    A category that does not name its keypoints, but has some, is taken to have them in order.

    Args:
        categories: of a COCO file; those that name no keypoints are not among the results.
        names: P, `config.model.keypoints.names`.
        source: the file, for the message.

    Raises:
        ValueError: a category has keypoints, but not all that are wanted.
    """
    columns = {}
    for category in categories:
        given = category.get("keypoints")
        if not isinstance(given, list) or not given:
            continue
        if missing := [name for name in names if name not in given]:
            raise ValueError(
                f"{source}: category {category.get('name')!r} has the keypoints "
                f"{', '.join(map(str, given))}; config.model.keypoints.names asks for "
                f"{missing[0]!r}, which is not among them"
            )
        columns[whole(category.get("id"))] = [given.index(name) for name in names]
    return {category: found for category, found in columns.items() if category is not None}


def coco_keypoints(given: Any, columns: Sequence[int] | None, number_of: int) -> np.ndarray | None:
    """Returns the keypoints [P, 3] of an annotation; None where it has none.

    Args:
        given: its `keypoints`, [x1, y1, v1, ...], whose positions name pixels.
        columns: which of them each wanted one is; None: they are the wanted ones, in order.
        number_of: P.

    Raises:
        FaultError: they are not as many numbers as they should be, or not finite.
    """
    if given is None or given == []:
        return None
    values = [number(value) for value in given] if isinstance(given, list) else [None]
    least = 3 * (number_of if columns is None else max(columns) + 1)
    if None in values or len(values) % 3 or len(values) < least:
        raise FaultError(
            FaultKind.KEYPOINTS,
            f"keypoints is {given!r:.80}; expected x, y and visibility of {least // 3} points: the "
            "object is taken as one whose keypoints are not known",
        )
    points = np.array(values, np.float64).reshape(-1, 3)
    points = points[:number_of] if columns is None else points[list(columns)]
    known = points[:, 2] > 0
    points[:, :2] += HALF_PIXEL
    points[~known] = 0
    return points.astype(np.float32) if known.any() else None


class LabelmePoints:
    """The points of one of labelme's files, which are given to the objects they belong to."""

    def __init__(self, names: Sequence[str]):
        """Takes P names: a point with one of these labels is a keypoint."""
        self._names = list(names)
        self._found: list[tuple[str, Any, int, np.ndarray]] = []

    def take(self, label: Any, shape: Mapping[str, Any], flags: set[str], where: str) -> bool:
        """Takes a shape if it is a keypoint.

        Args:
            label: of the shape.
            shape: an entry of `shapes`.
            flags: those of it that are set.
            where: it is, for messages.

        Raises:
            FaultError: it is a keypoint, but not a point with two numbers.
        """
        if shape.get("shape_type") != "point" or label not in self._names:
            return False
        given = shape.get("points")
        point = given[0] if isinstance(given, list) and len(given) == 1 else None
        values = [number(value) for value in point] if isinstance(point, list) else []
        if len(values) != 2 or None in values:
            raise FaultError(
                FaultKind.KEYPOINTS, f"its points are {given!r:.80}; expected one, [[x, y]]"
            )
        known = np.array([*values, 1 if HIDDEN in flags else 2], np.float32)
        group = shape.get("group_id")
        group = None if group is None else f"group {group}"
        self._found.append((where, group, self._names.index(label), known))
        return True

    def given_to(
        self, groups: Sequence[Any], boxes: Sequence[Any], warnings: list[tuple[str, FaultError]]
    ) -> list[np.ndarray | None]:
        """Returns the keypoints [P, 3] of each object; None of those that have none.

        A point belongs to the object of its group, or without a group to the smallest one whose
        box it lies in.

        Args:
            groups: of each object; "group 3" say, where it has a `group_id`.
            boxes: of each, xyxy.
            warnings: gets where each point is that belongs to none, or comes twice, and why.
        """
        points: list[np.ndarray | None] = [None] * len(groups)
        for where, group, place, known in self._found:
            owner = _owner(group, known[:2], groups, boxes)
            if owner is None:
                reason = "the point belongs to no object: give both one group_id"
            else:
                if points[owner] is None:
                    points[owner] = empty_keypoints(1, len(self._names))[0]
                if not points[owner][place].any():
                    points[owner][place] = known
                    continue
                reason = f"its object has a point {self._names[place]!r} already"
            warnings.append((where, FaultError(FaultKind.KEYPOINTS, f"{reason}; it is left out")))
        return points


def _owner(group: Any, point: np.ndarray, groups: Sequence[Any], boxes: Sequence[Any]):
    if group is not None:
        return next((i for i, other in enumerate(groups) if other == group), None)
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    around = ((corners[:, :2] <= point) & (point <= corners[:, 2:])).all(1)
    areas = np.where(around, np.prod(corners[:, 2:] - corners[:, :2], axis=1), np.inf)
    return int(areas.argmin()) if around.any() else None
