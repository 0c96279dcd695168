"""CVAT's side of a model behind `python -m maskrcnn_jax.serve`: an image in, masks out.

CVAT sends {"image": base64, "threshold": 0.5} and expects a list of shapes. A mask is the values of
its box, row by row, followed by the box's left, top, right and bottom pixel.
"""

import base64
import json
import os

import cv2
import numpy as np
import requests
from pycocotools import mask as coco_mask


def init_context(context):
    context.user_data.server = os.environ["SERVER"].rstrip("/")


def handler(context, event):
    given = event.body if isinstance(event.body, dict) else json.loads(event.body)
    answer = requests.post(
        f"{context.user_data.server}/predict",
        params={"min_score": float(given.get("threshold") or 0.5)},
        data=base64.b64decode(given["image"]),
        timeout=60,
    )
    body = json.dumps(_shapes(answer.json()) if answer.ok else answer.json())
    return context.Response(
        body=body, headers={}, content_type="application/json", status_code=answer.status_code
    )


def _shapes(answer):
    (image,) = answer["images"]
    shapes = (_shape(found) for found in image["detections"])
    return [shape for shape in shapes if shape is not None]


def _shape(found):
    mask = coco_mask.decode(found["segmentation"])
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    crop = mask[top : bottom + 1, left : right + 1]
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    points = max(outlines, key=cv2.contourArea)[:, 0]
    if len(points) < 3:  # CVAT may turn it into a polygon
        return None
    return {
        "confidence": str(found["score"]),
        "label": found["class_name"],
        "type": "mask",
        "points": points.ravel().tolist(),
        "mask": [*crop.ravel().tolist(), int(left), int(top), int(right), int(bottom)],
    }
