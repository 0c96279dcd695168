"""What the reference of the MaskIoU head was given: RoIs and weights, from a seed (numpy only)."""

import numpy as np

CLASSES, ROIS = 3, 5


def inputs(seed: int) -> dict[str, np.ndarray]:
    """Returns features, logits and true masks; no logit is near 0, where thresholds differ."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:28, :28] + 0.5
    radius = rng.uniform(7, 12, (ROIS, 1, 1))
    centre = rng.uniform(10, 18, (2, ROIS, 1, 1))
    distance = np.hypot(rows - centre[0], columns - centre[1])
    sure = rng.uniform(0.6, 6, (ROIS, 28, 28))
    shift = rng.uniform(-3, 3, (ROIS, 1, 1))
    return {
        "features": rng.normal(0, 1, (ROIS, 256, 14, 14)).astype(np.float32),
        "logits": np.where(distance < radius + shift, sure, -sure).astype(np.float32),
        "masks": (distance < radius).astype(np.float32),
    }


def weights(seed: int) -> dict[str, np.ndarray]:
    """Returns the head's weights by the authors' names."""
    rng, found = np.random.default_rng(seed), {}
    for i in range(1, 5):
        inputs = 257 if i == 1 else 256
        found[f"maskiou_fcn{i}.weight"] = rng.normal(0, 0.03, (256, inputs, 3, 3))
        found[f"maskiou_fcn{i}.bias"] = rng.normal(0, 0.1, 256)
    for i, inputs in ((1, 256 * 49), (2, 1024)):
        found[f"maskiou_fc{i}.weight"] = rng.normal(0, inputs**-0.5, (1024, inputs))
        found[f"maskiou_fc{i}.bias"] = rng.normal(0, 0.1, 1024)
    found["maskiou.weight"] = rng.normal(0, 0.05, (CLASSES + 1, 1024))
    found["maskiou.bias"] = rng.normal(0.5, 0.1, CLASSES + 1)
    return {name: array.astype(np.float32) for name, array in found.items()}
