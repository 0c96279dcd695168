"""The geometry of an augmentation: one mapping from image to network input, for all that moves.

The image, the boxes and the masks follow the same steps, in this order; each may do nothing. A
window of the image is cut out, turned over (mirrored, or turned by quarters of a circle), resized,
rotated about its centre, and seen through a frame. The frame is what the network sees as the image.

Without a rotation, pixels stay pixels and boxes stay boxes: these steps are taken one by one, so
that an image that is only mirrored and resized is treated exactly as in prediction. With one, the
matrix of all steps together is applied once.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from maskrcnn_jax.data.masks.segmentation import clip_polygon
from maskrcnn_jax.images.channels import in_fours
from maskrcnn_jax.images.sizes import Size, resize_boxes, resize_image
from maskrcnn_jax.images.tiles import Window

_FLIP_CODES = {(True, False): 1, (False, True): 0, (True, True): -1}  # OpenCV's, by (x, y)


@dataclass(frozen=True, slots=True)
class Geometry:
    """The steps from an image to its frame.

    Attributes:
        window: the part of the image that is used.
        size: height and width that the window is resized to, after it was turned over.
        frame: height and width of what is seen.
        transpose: whether rows become columns; the first step of turning over.
        flip_x: whether left and right are exchanged, after that.
        flip_y: whether top and bottom are exchanged, after that.
        angle: degrees of the rotation about the centre of `size`, clockwise.
        offset: (x, y) of the frame's top left corner in the resized image, whole pixels; negative
            where the frame reaches beyond it.
    """

    window: Window
    size: Size
    frame: Size
    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False
    angle: float = 0.0
    offset: tuple[int, int] = (0, 0)

    @property
    def turned_size(self) -> Size:
        """Height and width of the window after it was turned over."""
        x1, y1, x2, y2 = self.window
        return (x2 - x1, y2 - y1) if self.transpose else (y2 - y1, x2 - x1)

    @property
    def matrix(self) -> np.ndarray:
        """All steps in one: [2, 3] float64, from (x, y, 1) of the image to (x, y) of the frame."""
        (height, width), (turned_height, turned_width) = self.size, self.turned_size
        steps = [_shift(-self.window[0], -self.window[1])]
        if self.transpose:
            steps.append(_linear([[0, 1], [1, 0]]))
        if self.flip_x:
            steps.append(_shift(turned_width, 0) @ _linear([[-1, 0], [0, 1]]))
        if self.flip_y:
            steps.append(_shift(0, turned_height) @ _linear([[1, 0], [0, -1]]))
        steps.append(_linear([[width / turned_width, 0], [0, height / turned_height]]))
        if self.angle:
            cos, sin = np.cos(np.deg2rad(self.angle)), np.sin(np.deg2rad(self.angle))
            turn = _linear([[cos, -sin], [sin, cos]])
            steps.append(_shift(width / 2, height / 2) @ turn @ _shift(-width / 2, -height / 2))
        whole = _shift(-self.offset[0], -self.offset[1])
        for step in reversed(steps):
            whole = whole @ step
        return whole[:2]

    @property
    def is_mirror(self) -> bool:
        """Whether the frame shows a mirror image, and not only a turned one."""
        return self.transpose ^ self.flip_x ^ self.flip_y

    @property
    def area_scale(self) -> float:
        """Square pixels of the frame for one of the image."""
        (height, width), (turned_height, turned_width) = self.size, self.turned_size
        return (height / turned_height) * (width / turned_width)


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def _linear(matrix: list[list[float]]) -> np.ndarray:
    whole = np.eye(3)
    whole[:2, :2] = matrix
    return whole


def map_points(points: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Returns where points [k, 2] (x, y) of the image lie in the frame, [k, 2] float64."""
    matrix = geometry.matrix
    return points @ matrix[:, :2].T + matrix[:, 2]


def map_pixels(
    pixels: np.ndarray, geometry: Geometry, fill: tuple[float, ...] = (0,)
) -> np.ndarray:
    """Returns what the frame shows of an image, or of a mask.

    Args:
        pixels: [h, w, C] or [h, w], uint8 or uint16, of the window alone.
        geometry: from the image to the frame.
        fill: of what lies outside the window: a value for each channel, or one for all.

    Returns:
        [*frame, C] or [*frame], of the same dtype, interpolated bilinearly once.
    """
    if geometry.angle:
        return _rotate(pixels, geometry, fill)
    if geometry.transpose:
        pixels = in_fours(cv2.transpose, pixels)
    if geometry.flip_x or geometry.flip_y:
        code = _FLIP_CODES[geometry.flip_x, geometry.flip_y]
        pixels = in_fours(lambda part: cv2.flip(part, code), pixels)
    return _frame(resize_image(pixels, geometry.size), geometry, fill)


def _rotate(pixels: np.ndarray, geometry: Geometry, fill: tuple[float, ...]) -> np.ndarray:
    """Applies the whole matrix to a window's pixels; the centre of the first is at (0.5, 0.5)."""
    matrix = geometry.matrix
    centre = np.add(geometry.window[:2], 0.5)
    matrix[:, 2] += matrix[:, :2] @ centre - 0.5
    height, width = geometry.frame

    def rotated(part: np.ndarray, fill: np.ndarray) -> np.ndarray:
        return cv2.warpAffine(
            part, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=fill.tolist()
        )

    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    return in_fours(rotated, pixels, np.broadcast_to(np.array(fill, np.float64), channels))


def _frame(pixels: np.ndarray, geometry: Geometry, fill: tuple[float, ...]) -> np.ndarray:
    """Returns the frame's part of resized pixels; `fill` where it reaches beyond them."""
    (x, y), (height, width) = geometry.offset, geometry.frame
    if (x, y) == (0, 0) and pixels.shape[:2] == (height, width):
        return pixels
    seen = pixels[max(y, 0) : y + height, max(x, 0) : x + width]
    framed = np.empty((height, width, *pixels.shape[2:]), pixels.dtype)
    framed[...] = fill if pixels.ndim == 3 else 0
    framed[max(-y, 0) :, max(-x, 0) :][: seen.shape[0], : seen.shape[1]] = seen
    return framed


def map_boxes(boxes: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Returns boxes [n, 4] of the image in the frame, float32, not cut; without a rotation only."""
    boxes = boxes - np.array(geometry.window[:2] * 2, np.float32)
    if geometry.transpose:
        boxes = boxes[:, [1, 0, 3, 2]]
    height, width = np.array(geometry.turned_size, np.float32)
    x1, y1, x2, y2 = boxes.T
    if geometry.flip_x:
        x1, x2 = width - x2, width - x1
    if geometry.flip_y:
        y1, y2 = height - y2, height - y1
    boxes = resize_boxes(np.stack([x1, y1, x2, y2], 1), geometry.turned_size, geometry.size)
    return boxes - np.array(geometry.offset * 2, np.float32)


def turn_grids(grids: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Returns grids [n, M, M] inside boxes turned over as the image is."""
    if geometry.transpose:
        grids = grids.transpose(0, 2, 1)
    if geometry.flip_x:
        grids = grids[:, :, ::-1]
    if geometry.flip_y:
        grids = grids[:, ::-1]
    return np.ascontiguousarray(grids)


def visible_box(geometry: Geometry) -> np.ndarray:
    """Returns the part of the image that the frame shows, xyxy [4] float64, without a rotation.

    Where the frame ends with the resized window, it is exactly the window's border.
    """
    (x, y), (frame_height, frame_width) = geometry.offset, geometry.frame
    (height, width), (turned_height, turned_width) = geometry.size, geometry.turned_size
    x1, x2 = (v / width * turned_width for v in (max(x, 0), min(x + frame_width, width)))
    y1, y2 = (v / height * turned_height for v in (max(y, 0), min(y + frame_height, height)))
    if geometry.flip_x:
        x1, x2 = turned_width - x2, turned_width - x1
    if geometry.flip_y:
        y1, y2 = turned_height - y2, turned_height - y1
    box = (y1, x1, y2, x2) if geometry.transpose else (x1, y1, x2, y2)
    return np.add(box, geometry.window[:2] * 2)


def visible_region(geometry: Geometry) -> np.ndarray:
    """Returns the part of the image that the frame shows: the corners of a convex polygon [k, 2].

    It has no corners where the frame shows nothing.
    """
    if not geometry.angle:
        x1, y1, x2, y2 = visible_box(geometry)
        return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
    height, width = geometry.frame
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
    matrix = geometry.matrix
    corners = np.linalg.solve(matrix[:, :2], (corners - matrix[:, 2]).T).T
    return clip_polygon(corners, geometry.window[:2], geometry.window[2:])
