"""Small datasets in COCO's format whose images are not RGB of 8 bits."""

import json
from pathlib import Path

import cv2
import numpy as np
import tifffile

SIDE = 64


def deep_image(channels: int, number: int) -> tuple[np.ndarray, list[int]]:
    """Returns an image of 16 bits with a bright rectangle, [64, 64, channels], and its x, y, w, h.

    Values are those of a camera of 12 bits: only the lowest sixteenth of the range is used.
    """
    rng = np.random.default_rng(number)
    image = rng.normal(400, 40, (SIDE, SIDE, channels))
    x, y = (int(v) for v in rng.integers(4, 24, 2))
    w, h = (int(v) for v in rng.integers(16, 36, 2))
    image[y : y + h, x : x + w] += 2000 + 300 * np.arange(channels)
    return image.clip(0, 4095).astype(np.uint16), [x, y, w, h]


def write_deep_set(folder: Path, channels: int, count: int = 6) -> dict[str, str]:
    """Writes PNG of 16 bits for one channel, else TIFF; returns the reader's arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(count):
        pixels, box = deep_image(channels, number)
        name = f"{number}.png" if channels == 1 else f"{number}.tif"
        if channels == 1:
            cv2.imwrite(str(folder / name), pixels[..., 0])
        else:
            tifffile.imwrite(folder / name, pixels.transpose(2, 0, 1), photometric="minisblack")
        images.append(dict(id=number, file_name=name, height=SIDE, width=SIDE))
        x, y, w, h = box
        outline = [x, y, x + w, y, x + w, y + h, x, y + h]
        annotations.append(
            dict(id=number + 1, image_id=number, category_id=1, bbox=box, segmentation=[outline])
        )
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name="bright")])
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return dict(images=str(folder), annotations=str(path))
