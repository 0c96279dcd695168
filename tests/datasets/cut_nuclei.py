"""Cuts the images of `nuclei/` out of those of the 2018 Data Science Bowl (CC0).

    python tests/datasets/cut_nuclei.py FOLDER

FOLDER has the images of stage 1 as they are published, in any subfolders: <id>/images/<id>.png and
<id>/masks/*.png.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).parent / "nuclei"
# By the first ten digits of an image: split, left and top corner, width and height.
CROPS = {
    "136000dc18": ("train", (192, 128, 128, 128)),
    "13c8ff1f49": ("train", (96, 0, 160, 160)),
    "57bd029b19": ("train", (48, 0, 160, 128)),
    "9b25b8ffd5": ("train", (0, 8, 176, 144)),
    "9ebcfaf232": ("train", (88, 24, 128, 128)),
    "a6515d7307": ("train", (40, 0, 192, 128)),
    "b560dba92f": ("train", (48, 8, 144, 176)),
    "bbce7ebc40": ("train", (0, 152, 160, 160)),
    "bc115ff727": ("train", (24, 136, 176, 144)),
    "20468e8779": ("val", (56, 0, 160, 160)),
    "589f86dee5": ("val", (160, 96, 160, 128)),
    "d4d6c683f2": ("val", (96, 40, 160, 144)),
}
LABELME = ("136000dc18", "57bd029b19", "9b25b8ffd5", "bc115ff727")


def outlines(mask: np.ndarray) -> list[list[list[float]]]:
    """Returns the outlines [[x, y], ...] of a mask's parts, as a person might click them."""
    large = cv2.resize(mask, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    parts, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    corners = (cv2.approxPolyDP(part, 1.5, closed=True)[:, 0] for part in parts)
    return [((part + 0.5) / 4).round(2).tolist() for part in corners if len(part) > 2]


def labelme(name: str, image: np.ndarray, masks: list[np.ndarray]) -> dict:
    """Returns the content of labelme's file; parts of one nucleus have one group_id."""
    shapes = []
    for number, mask in enumerate(masks):
        parts = outlines(mask)
        group = {"group_id": number if len(parts) > 1 else None, "flags": {}}
        shape = {"label": "nucleus", "shape_type": "polygon", **group}
        shapes += [{**shape, "points": points} for points in parts]
    size = {"imageHeight": image.shape[0], "imageWidth": image.shape[1]}
    head = {"version": "5.5.0", "flags": {}, "shapes": shapes}
    return {**head, "imagePath": f"{name}.png", "imageData": None, **size}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name, (split, (x, y, width, height)) in CROPS.items():
        (path,) = folder.rglob(f"{name}*.png")
        window = np.s_[y : y + height, x : x + width]
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[window]
        files = sorted((path.parent.parent / "masks").glob("*.png"))
        masks = [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)[window] for file in files]
        masks = [mask for mask in masks if mask.any()]
        for part in ("images", "masks"):
            (HERE / split / name / part).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(HERE / split / name / "images" / f"{name}.png"), image)
        for number, mask in enumerate(masks):
            cv2.imwrite(str(HERE / split / name / "masks" / f"{number:02}.png"), mask)
        if name in LABELME:
            (HERE / "labelme").mkdir(exist_ok=True)
            cv2.imwrite(str(HERE / "labelme" / f"{name}.png"), image[..., :3])
            text = json.dumps(labelme(name, image, masks))
            (HERE / "labelme" / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
