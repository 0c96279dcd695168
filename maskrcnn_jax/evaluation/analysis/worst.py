"""The images that went worst, with what went wrong drawn."""

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from maskrcnn_jax.evaluation.analysis.errors import image_errors
from maskrcnn_jax.evaluation.analysis.matching import ImageMatch
from maskrcnn_jax.visualization.drawing import as_rgb
from maskrcnn_jax.visualization.labels import draw_labels

PAINTS = {
    "right": (60, 170, 80),
    "classification": (160, 90, 240),
    "localisation": (240, 175, 20),
    "both": (150, 100, 60),
    "duplicate": (70, 190, 220),
    "background": (235, 60, 50),
    "not found": (50, 90, 245),
}
_SIDE = 640  # pixels of the picture's long side
_QUALITY = 85


def draw_errors(image: np.ndarray, match: ImageMatch, class_names: list[str]) -> np.ndarray:
    """Draws outlines: of detections in the colour of their error, of objects that were not found.

    Args:
        image: `[h, w, C]` uint8 or uint16 (see `drawing.as_rgb`).
        match: with the detections to draw.
        class_names: K names.

    Returns:
        `[H, W, 3]` uint8, RGB, its long side 640 pixels; detections that are right or ignored have
        no label.
    """
    scale = _SIDE / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    picture = cv2.resize(as_rgb(image), size, interpolation=way)
    picture = np.ascontiguousarray(picture)
    drawn = [*_not_found(match, class_names), *_found(match, class_names)]
    for entry, paint, _ in drawn:
        mask = cv2.resize(
            coco_mask.decode(entry["segmentation"]), size, interpolation=cv2.INTER_NEAREST
        )
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, paint, 2, cv2.LINE_AA)
    boxes = np.array([entry["bbox"] for entry, _, _ in drawn], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    texts, paints = [text for _, _, text in drawn], [paint for _, paint, _ in drawn]
    draw_labels(picture, texts, boxes * scale, paints)
    return picture


def _not_found(match: ImageMatch, class_names):
    taken = set(match.match.tolist())
    for column, entry in enumerate(match.objects):
        if column not in taken:
            yield entry, PAINTS["not found"], class_names[match.true_labels[column]]


def _found(match: ImageMatch, class_names):
    for row, kind in enumerate(image_errors(match).kinds):
        name = f"{class_names[match.labels[row]]} {match.scores[row]:.2f}"
        yield match.detections[row], PAINTS[kind or "right"], name if kind else ""


def encode_jpeg(picture: np.ndarray) -> bytes:
    """Returns an RGB picture `[h, w, 3]` uint8 as the content of a JPEG file."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), settings)
    return data.tobytes()
