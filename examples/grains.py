"""Writes a set of generated grain images, as label images: computed tomography or a thin section.

    python examples/grains.py ct data/grains_ct
    python examples/grains.py mineral data/grains_mineral

`ct` is a slice through a packed bed: round grains that touch, grey of 16 bits, blurred, noisy, with
the rings of a detector. `mineral` is a thin section of rock between crossed polars: grains of four
minerals without gaps, RGB of 8 bits, twins and cleavage drawn as stripes. The folders `train` and
`val` hold `images/`, `masks/` (0 is background, every other number one grain) and, for minerals,
`classes.json`. Each image is a function of its number and the folder's seed. `configs/grains.py`
trains on both.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

SIZE = 256
SEEDS = {"train": 0, "val": 1}
MINERALS = ("quartz", "feldspar", "biotite", "calcite")

Picture = tuple[np.ndarray, np.ndarray, dict[str, str]]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=DRAW)
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--train", type=int, default=300, help="training images")
    parser.add_argument("--val", type=int, default=60, help="validation images")
    options = parser.parse_args(argv)
    if options.out.exists():
        parser.error(f"{options.out} exists already; give a new folder")
    for split, seed in SEEDS.items():
        write(options.out / split, DRAW[options.kind], seed, getattr(options, split))
    print(f"{options.out}: {options.train} training and {options.val} validation images")


def write(
    folder: Path, draw: Callable[[np.random.Generator], Picture], seed: int, count: int
) -> None:
    """Writes the images of one split, their label images and, where there are some, classes."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    classes = {}
    for index in range(count):
        image, labels, names = draw(np.random.default_rng([seed, index]))
        name = f"{index:04d}"
        cv2.imwrite(str(folder / "images" / f"{name}.png"), image)
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), labels)
        classes[name] = names
    if any(classes.values()):
        (folder / "classes.json").write_text(json.dumps(classes))


def ct_slice(rng: np.random.Generator) -> Picture:
    """Returns a slice [S, S] uint16, its labels [S, S] uint16, and no classes."""
    spacing = rng.uniform(24, 40)
    nearest, distance, second = _cells(rng, spacing, warp=2.0)
    # A grain is round where it is free, and flat where it meets its neighbour.
    radius = spacing * rng.uniform(0.42, 0.68, nearest.max() + 1)
    grain = (distance < radius[nearest]) & (second - distance > 0.7)
    grain &= (rng.uniform(size=len(radius)) < 0.9)[nearest]  # some have fallen out
    labels = _numbered(np.where(grain, nearest + 1, 0))
    density = rng.normal(0.55, 0.05, len(radius))[nearest]
    slice_ = np.where(grain, density, 0.22)
    rows, columns = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    rings = rng.normal(0, 0.012, SIZE)[np.hypot(rows, columns).astype(int)]
    slice_ = cv2.GaussianBlur(slice_ + rings, (0, 0), 0.9)
    slice_ += cv2.GaussianBlur(rng.normal(0, 0.09, slice_.shape), (0, 0), 0.6)
    return (np.clip(slice_, 0, 1) * 65535).astype(np.uint16), labels, {}


def thin_section(rng: np.random.Generator) -> Picture:
    """Returns a section [S, S, 3] uint8 BGR, its labels [S, S] uint16, each grain's mineral."""
    nearest, _, _ = _cells(rng, rng.uniform(26, 46), warp=5.0)
    labels = _numbered(nearest + 1)
    kinds = rng.choice(len(MINERALS), labels.max() + 1, p=(0.4, 0.3, 0.15, 0.15))
    section = np.zeros((SIZE, SIZE, 3), np.float32)
    for grain in range(1, labels.max() + 1):
        inside = labels == grain
        section[inside] = _mineral(rng, kinds[grain])[inside]
    edges = cv2.morphologyEx(labels.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0
    section[edges] *= 0.75
    section = cv2.GaussianBlur(section, (0, 0), 0.7) + rng.normal(0, 0.04, section.shape)
    names = {str(grain): MINERALS[kinds[grain]] for grain in range(1, len(kinds))}
    return (np.clip(section, 0, 1) * 255).astype(np.uint8), labels, names


DRAW = {"ct": ct_slice, "mineral": thin_section}


def _cells(
    rng: np.random.Generator, spacing: float, warp: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns each pixel's nearest centre, and the distances to that and to the next, pixels.

    Centres are a shaken grid; `warp` bends the borders between their cells by so many pixels.
    """
    steps = np.arange(-spacing, SIZE + spacing, spacing)
    centres = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    centres += rng.uniform(-0.4, 0.4, centres.shape) * spacing
    bend = [
        cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE)), (0, 0), 6) * 6 * 2 * np.sqrt(np.pi) * warp
        for _ in range(2)
    ]
    rows, columns = (np.mgrid[:SIZE, :SIZE] + bend).astype(np.float32)
    nearest = np.zeros(rows.shape, np.int32)
    first, second = (np.full(rows.shape, np.inf, np.float32) for _ in range(2))
    for number, (row, column) in enumerate(centres.astype(np.float32)):
        distance = np.hypot(rows - row, columns - column)
        nearer = distance < first
        second = np.where(nearer, first, np.minimum(second, distance))
        first = np.where(nearer, distance, first)
        nearest[nearer] = number
    return nearest, first, second


def _numbered(labels: np.ndarray) -> np.ndarray:
    """Returns the pieces of at least 12 pixels, counted from 1; each is an object of its own."""
    numbered = np.zeros(labels.shape, np.uint16)
    for label in np.unique(labels[labels > 0]):
        count, pieces, stats, _ = cv2.connectedComponentsWithStats((labels == label).astype("u1"))
        for piece in range(1, count):
            if stats[piece, cv2.CC_STAT_AREA] >= 12:
                numbered[pieces == piece] = numbered.max() + 1
    return numbered


def _mineral(rng: np.random.Generator, kind: int) -> np.ndarray:
    """Returns an area [S, S, 3] of one mineral in one orientation, BGR, 0..1."""
    turn, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    along = rows * np.sin(turn) + columns * np.cos(turn)
    light = rng.uniform(0.25, 0.8)  # by how far the crystal is turned between the polars
    if kind == 0:  # grey, even, with undulating extinction
        return light * (0.9 + 0.1 * np.sin(along / 25 + phase))[..., None] * np.ones(3)
    if kind == 1:  # grey twins: two orientations side by side
        twins = np.sign(np.sin(2 * np.pi * along / rng.uniform(6, 12) + phase))
        return (0.45 + rng.uniform(0.12, 0.2) * twins)[..., None] * np.ones(3)
    if kind == 2:  # brown, with fine cleavage
        cleavage = 1 - 0.25 * (np.sin(2 * np.pi * along / 4 + phase) > 0.6)
        return light * cleavage[..., None] * np.array([0.25, 0.55, 0.95])
    # Pastel colours of high birefringence, and two directions of cleavage.
    across = rows * np.cos(turn + 0.3) - columns * np.sin(turn + 0.3)
    cleavage = 1 - 0.3 * ((np.sin(along / 2.2) > 0.9) | (np.sin(across / 2.2) > 0.9))
    return cleavage[..., None] * (0.75 + 0.2 * np.cos(phase + np.array([0.0, 2.1, 4.2])))


if __name__ == "__main__":
    main()
