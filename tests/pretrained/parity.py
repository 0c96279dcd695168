"""What the tests against other projects' outputs share."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np


def load_module(path: Path) -> ModuleType:
    """Returns the module in a file, which may import its neighbours by name."""
    sys.path.insert(0, str(path.parent))
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def matching_order(reference: np.ndarray, ours: np.ndarray, tolerance: float) -> np.ndarray:
    """For each reference box the index of the only box of ours that is equal to it."""
    assert len(ours) == len(reference)
    distance = np.abs(reference[:, None] - ours[None]).max(-1)
    order = distance.argmin(1)
    assert distance.min(1).max(initial=0) <= tolerance
    assert len(set(order)) == len(order)
    return order
