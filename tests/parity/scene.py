"""Pictures and objects to compute reference values on (numpy only)."""

import numpy as np


def image(height: int, width: int, seed: int) -> np.ndarray:
    """Returns an RGB picture [height, width, 3] uint8: slow waves behind boxes and ellipses."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    rates, phases = rng.uniform(0.5, 3, (2, 3)), rng.uniform(0, 6, (2, 3))
    waves = np.sin(x[..., None] * 6 * rates[0] + phases[0])
    waves = waves * np.cos(y[..., None] * 6 * rates[1] + phases[1])
    picture = 127 + 70 * waves
    for number in range(16):
        centre, half = rng.uniform(0, 1, 2), rng.uniform(0.03, 0.3, 2)
        far = np.abs(np.stack([y - centre[0], x - centre[1]])) / half.reshape(2, 1, 1)
        inside = far.max(0) < 1 if number % 2 else (far**2).sum(0) < 1
        picture[inside] = 0.2 * picture[inside] + 0.8 * rng.uniform(0, 255, 3)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def objects(
    height: int, width: int, seed: int, classes: int, count: int = 6
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns ellipses and triangles that touch all sides of their boxes.

    Boxes [count, 4] float32, labels [count] int64 and masks [count, height, width] uint8.
    """
    rng = np.random.default_rng([seed, 1])
    size = rng.uniform(0.12, 0.5, (count, 2)) * [width, height]
    corner = rng.uniform(0, 1, (count, 2)) * ([width - 1, height - 1] - size)
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    labels = rng.integers(1, classes, count)
    y, x = np.mgrid[:height, :width] + 0.5
    masks = []
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        u, v = (x - (x1 + x2) / 2) / (x2 - x1), (y - y1) / (y2 - y1)  # -1/2 to 1/2 and 0 to 1
        triangle = (v >= 0) & (v <= 1) & (np.abs(u) <= v / 2)
        masks.append(triangle if number % 2 else u**2 + (v - 0.5) ** 2 <= 0.25)
    return boxes, labels, np.array(masks, np.uint8)
