"""Keypoints drawn into an image: points, and the lines of the skeleton between them."""

from collections.abc import Sequence

import cv2
import numpy as np

from maskrcnn_jax.keypoint_set import SHOWN, KeypointSet

_LIGHT = (255, 255, 255)


def draw_keypoints(
    picture: np.ndarray,
    points: np.ndarray,
    keypoints: KeypointSet,
    paints: Sequence[tuple[int, int, int]],
    width: int,
) -> None:
    """Draws the keypoints of objects into a picture, which is changed.

    Args:
        picture: `[h, w, 3]` uint8, RGB.
        points: `[n, P, 3]`: x and y in pixels of the picture, and how well they are known: a score,
            or visibility as in annotations. Those below `SHOWN` are left out, and their lines.
        keypoints: what they are.
        paints: n colours.
        width: of the lines, pixels.
    """
    for object_points, paint in zip(points, paints, strict=True):
        shown = object_points[:, 2] >= SHOWN
        places = [(round(float(x)), round(float(y))) for x, y in object_points[:, :2]]
        for first, second in keypoints.skeleton:
            if shown[first] and shown[second]:
                cv2.line(picture, places[first], places[second], paint, 2 * width, cv2.LINE_AA)
        for i in np.flatnonzero(shown):
            cv2.circle(picture, places[i], 3 * width, _LIGHT, -1, cv2.LINE_AA)
            cv2.circle(picture, places[i], 2 * width, paint, -1, cv2.LINE_AA)
