"""Writes pictures of stick figures with keypoints, as a COCO data set: keypoints of one's own.

    python examples/figures.py data/figures
    python train.py --config=configs/figures.py

One to three figures a picture, 128 pixels wide, seen from the front: their left is at the right.
`train` and `val` hold `images/` and `keypoints.json`. Each picture is a function of its number and
the folder's seed.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

SIZE = 128
SEEDS = {"train": 0, "val": 1}
NAMES = ("head", "hip", "left_hand", "right_hand", "left_foot", "right_foot")
LIMBS = (("neck", "hip"), ("neck", "left_hand"), ("neck", "right_hand"), ("hip", "left_foot"))
LIMBS += (("hip", "right_foot"), ("head", "neck"))
_SUBPIXELS = 3  # bits of a coordinate behind the point

Points = dict[str, np.ndarray]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--train", type=int, default=400, help="training images")
    parser.add_argument("--val", type=int, default=60, help="validation images")
    options = parser.parse_args(argv)
    if options.out.exists():
        parser.error(f"{options.out} exists already; give a new folder")
    for split, seed in SEEDS.items():
        write(options.out / split, seed, getattr(options, split))
    print(f"{options.out}: {options.train} training and {options.val} validation images")


def write(folder: Path, seed: int, count: int) -> None:
    """Writes the pictures of one split and their annotations."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for index in range(count):
        picture, figures = draw(np.random.default_rng([seed, index]))
        name = f"{index:04d}.png"
        cv2.imwrite(str(folder / "images" / name), picture)
        images.append({"id": index, "file_name": name, "height": SIZE, "width": SIZE})
        for height, points in figures:
            annotations.append(annotation(len(annotations) + 1, index, height, points))
    category = {"id": 1, "name": "figure", "keypoints": NAMES, "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "keypoints.json").write_text(json.dumps(content))


def draw(rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[float, Points]]]:
    """Returns a picture, and height and points of its figures, the hindmost first."""
    noise = rng.normal(0, 10, (SIZE, SIZE, 3))
    picture = (rng.integers(0, 255, 3) + noise).clip(0, 255).astype(np.uint8)
    figures = [_figure(rng) for _ in range(rng.integers(1, 4))]
    for height, points in figures:
        colour = [int(value) for value in rng.integers(0, 255, 3)]
        width = max(2, round(height / 14))
        for ends in LIMBS:
            start, end = (_fixed(points[name]) for name in ends)
            cv2.line(picture, start, end, colour, width, cv2.LINE_AA, _SUBPIXELS)
        radius = round(0.13 * height * 2**_SUBPIXELS)
        cv2.circle(picture, _fixed(points["head"]), radius, colour, -1, cv2.LINE_AA, _SUBPIXELS)
    return picture, figures


def _figure(rng: np.random.Generator) -> tuple[float, Points]:
    height = rng.uniform(28, 60)
    x = rng.uniform(0.5 * height + 4, SIZE - 0.5 * height - 4)
    head = np.array([x, rng.uniform(0.15 * height + 4, SIZE - 1.35 * height - 6)])
    neck = head + (0, 0.18 * height)
    hip = neck + (rng.uniform(-0.1, 0.1) * height, 0.45 * height)

    def limb(start, angle, length):
        return start + length * height * np.array([np.cos(angle), np.sin(angle)])

    arms, legs = rng.uniform(-1, 1, 2), rng.uniform(0.6, 1.4, 2)
    return height, {
        "head": head,
        "neck": neck,
        "hip": hip,
        "left_hand": limb(neck, arms[0], 0.45),
        "right_hand": limb(neck, np.pi - arms[1], 0.45),
        "left_foot": limb(hip, legs[0], 0.5),
        "right_foot": limb(hip, np.pi - legs[1], 0.5),
    }


def _fixed(point: np.ndarray) -> tuple[int, int]:
    x, y = (round(float(value) * 2**_SUBPIXELS) for value in point)
    return x, y


def annotation(number: int, image: int, height: float, points: Points) -> dict:
    """Returns COCO's annotation of a figure: its box, and its keypoints, which name pixels."""
    places = np.array([points[name] for name in NAMES])
    head = points["head"] + 0.15 * height * np.array([[-1, -1], [1, 1]])
    all_points = np.concatenate([places, head])
    low = (all_points.min(axis=0) - 1).clip(0)
    side = (all_points.max(axis=0) + 1).clip(max=SIZE) - low
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [*low.tolist(), *side.tolist()],
        "area": float(side.prod()) / 2,
        "iscrowd": 0,
        "keypoints": [value for x, y in np.floor(places).tolist() for value in (x, y, 2)],
        "num_keypoints": len(NAMES),
    }


if __name__ == "__main__":
    main()
