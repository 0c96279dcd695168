"""Boxes, masks and names drawn into an image."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from maskrcnn_jax.keypoint_set import KeypointSet
from maskrcnn_jax.visualization.keypoints import draw_keypoints
from maskrcnn_jax.visualization.labels import draw_labels
from maskrcnn_jax.visualization.style import Style

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_USUAL = Style()
_SMALL = 800  # pixels; an image whose long side is shorter is enlarged before drawing


def draw_detections(
    image: np.ndarray,
    boxes: np.ndarray,
    masks: Iterable[np.ndarray] | None = None,
    labels: Sequence[str] | None = None,
    scores: np.ndarray | None = None,
    colors: Sequence[int] | None = None,
    style: Style = _USUAL,
    points: np.ndarray | None = None,
    keypoints: KeypointSet | None = None,
) -> np.ndarray:
    """Draws objects: masks as a tint with an outline, boxes, keypoints, names and scores.

    Args:
        image: `[h, w, 3]` uint8, RGB; it is not changed.
        boxes: `[n, 4]`, xyxy, pixels of the image.
        masks: n masks `[h, w]`, bool or 0 and 1; one at a time is enough (a generator will do).
        labels: n names.
        scores: `[n]`, 0..1, written after the names.
        colors: n numbers of colours (see `Style`); None: every object has its own.
        style: what of all this is drawn, and how; `splash` and `color_by` are for `draw_result`.
        points: `[n, P, 3]`, see `draw_keypoints`; None: none are drawn.
        keypoints: what they are.

    Returns:
        `[h, w, 3]` uint8, RGB. Names are drawn last, where they do not hide each other.
    """
    picture = image.copy()
    paints = style.paints(range(len(boxes)) if colors is None else colors)
    width = style.width(*image.shape[:2])
    if style.masks:
        pairs = zip(masks if masks is not None else (), paints, strict=masks is not None)
        for mask, paint in pairs:
            _draw_mask(picture, mask, paint, width, style.opacity)
    if style.boxes:
        for box, paint in zip(boxes, paints, strict=True):
            (x1, y1), (x2, y2) = _corner(box[:2]), _corner(box[2:])
            cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), paint, width, cv2.LINE_AA)
    if points is not None and keypoints is not None:
        draw_keypoints(picture, points, keypoints, paints, width)
    words = [list(labels) if labels is not None and style.names else [""] * len(boxes)]
    if scores is not None and style.scores:
        words.append([f"{score:.2f}" for score in scores])
    texts = [" ".join(filter(None, parts)) for parts in zip(*words, strict=True)]
    draw_labels(picture, texts, boxes, paints)
    return picture


def draw_boxes(
    image: np.ndarray, boxes: np.ndarray, paint: tuple[int, int, int], thickness: int = 2
) -> np.ndarray:
    """Returns a copy of an RGB image with boxes `[n, 4]` outlined in one colour."""
    picture = image.copy()
    for box in boxes:
        cv2.rectangle(picture, _corner(box[:2]), _corner(box[2:]), paint, thickness, cv2.LINE_AA)
    return picture


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Returns an image of any channels and depth as one to look at.

    Of three or more channels the first three are red, green and blue; of fewer the first is grey.
    16-bit channels go each from its 1st percentile, black, to its 99th, white, over the pixels that
    are not zero throughout, as padding is.

    Args:
        image: `[h, w, C]` uint8 or uint16.

    Returns:
        `[h, w, 3]` uint8; the image itself where it is one.
    """
    shown = image[..., : 3 if image.shape[2] >= 3 else 1]
    if image.dtype != np.uint8:
        seen = shown[image.any(-1)]
        low, high = np.percentile(seen, (1, 99), axis=0) if len(seen) else (0, 1)
        share = (shown - low) / np.maximum(high - low, 1)
        shown = np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)
    return shown if shown.shape[2] == 3 else np.repeat(shown, 3, 2)


def enlarged(image: np.ndarray, scale: float | None = None) -> tuple[np.ndarray, float]:
    """Resizes an image or mask; by default a small one by a whole factor, so that names fit.

    Args:
        image: a mask `[h, w]`, or an image `[h, w, C]`, which `as_rgb` is applied to.
        scale: the factor; None: the least that gives a long side of 800 pixels.

    Returns:
        The mask `[h, w]` or the image `[h, w, 3]`, of uint8, and the factor.
    """
    if scale is None:
        scale = max(1, -(-_SMALL // max(image.shape[:2])))
    image = np.asarray(image, np.uint8) if np.ndim(image) == 2 else as_rgb(image)
    if scale == round(scale):
        whole = round(scale)
        return (image if whole == 1 else image.repeat(whole, axis=0).repeat(whole, axis=1)), scale
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    how = cv2.INTER_NEAREST if image.ndim == 2 else cv2.INTER_AREA
    return cv2.resize(image, size, interpolation=how), scale


def side_by_side(pictures: Sequence[np.ndarray], titles: Sequence[str]) -> np.ndarray:
    """Joins pictures of one height in a row, each under its title; RGB uint8 in and out."""
    gap = np.full((pictures[0].shape[0] + 28, 6, 3), 255, np.uint8)
    columns = []
    for picture, title in zip(pictures, titles, strict=True):
        head = np.full((28, picture.shape[1], 3), 255, np.uint8)
        cv2.putText(head, title, (4, 19), _FONT, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
        columns += [np.concatenate([head, picture]), gap]
    return np.concatenate(columns[:-1], axis=1)


def _draw_mask(picture, mask, paint, thickness, opacity) -> None:
    mask = np.asarray(mask, np.uint8)
    x, y, width, height = cv2.boundingRect(mask)
    if not width:
        return
    here = np.s_[y : y + height, x : x + width]
    inside = mask[here] > 0
    mixed = picture[here][inside] * (1 - opacity) + np.array(paint) * opacity
    picture[here][inside] = mixed.astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, paint, thickness, cv2.LINE_AA)


def _corner(point) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
