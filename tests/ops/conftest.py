"""Independent numpy references and random inputs that several tests of the operations share."""

import numpy as np
import pytest

from tests.parity.reference import Reference


@pytest.fixture(scope="session")
def ops_reference(parity_dir):
    """torchvision's results for each operation, by name."""
    return Reference(parity_dir / "ops.npz")


def _iou(box, others):
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    intersection = np.maximum(width, np.float32(0)) * np.maximum(height, np.float32(0))
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    return intersection / ((box[2] - box[0]) * (box[3] - box[1]) + areas - intersection)


def _greedy(boxes, scores, valid, threshold, groups=None):
    """Indices kept, best first: the textbook loop over the boxes that are still there."""
    groups = np.zeros(len(boxes), int) if groups is None else groups
    rest = np.lexsort((np.arange(len(boxes)), -scores))
    rest = rest[valid[rest]]
    kept = []
    while rest.size:
        best, rest = rest[0], rest[1:]
        kept.append(int(best))
        gone = (groups[rest] == groups[best]) & (_iou(boxes[best], boxes[rest]) > threshold)
        rest = rest[~gone]
    return kept


@pytest.fixture(scope="session")
def numpy_greedy():
    """Function (boxes, scores, valid, threshold, groups=None) -> indices kept, best first."""
    return _greedy


@pytest.fixture
def random_boxes():
    """Function (rng, *shape) -> float32 boxes with sides of 4 to 60 in an image of 128 x 128.

    Coordinates are multiples of 1/4: float32 holds areas exactly, whichever way a compiler orders
    or fuses the operations.
    """

    def make(rng, *shape):
        corner = rng.uniform(0, 100, (*shape, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(4, 60, (*shape, 2))], axis=-1)
        return (np.round(boxes * 4) / 4).astype(np.float32)

    return make
