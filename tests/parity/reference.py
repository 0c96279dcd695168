"""Reads reference values and says how near to them a result has to be.

The tolerance is not tuned: it follows from what float32 arithmetic did to the reference itself,
which each file states for every array (`float32_vs_float64_max_abs` of its meta).
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

# A second correct implementation sums in other orders. Its error has the size of the reference's
# own, but another maximum; ten times leaves room for that and for no mistake.
FACTOR = 10
KINK = 1e-3  # of a gradient: see gradient_tolerance
UNSTATED = 3e-5  # of the largest value, where a file does not state the reference's own error
EPS = np.finfo(np.float32).eps


class Reference:
    """A file of reference values: `reference[key]` is an array, `reference.meta` the JSON text."""

    def __init__(self, path: Path):
        self._arrays = np.load(path)
        self.meta = json.loads(str(self._arrays["meta"]))
        self._errors = {}
        for name, error in self.meta.get("float32_vs_float64_max_abs", {}).items():
            parts = error if isinstance(error, dict) else {"": error}
            self._errors |= {f"{name}.{key}".rstrip("."): value for key, value in parts.items()}

    def __getitem__(self, key: str) -> np.ndarray:
        return self._arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self._arrays.files

    def keys(self, prefix: str) -> Iterator[str]:
        """Returns the keys that begin with a prefix."""
        return (key for key in self._arrays.files if key.startswith(prefix))

    def exact(self, key: str) -> np.ndarray:
        """Returns the values of float64 arithmetic where a file has them beside those of float32.

        The files of this folder hold one array for both: float64 arithmetic, rounded at the end.
        """
        return self[f"f64.{key}"] if f"f64.{key}" in self else self[key]

    def float32_error(self, key: str) -> float | None:
        """Returns the largest error of the reference's float32 arithmetic, where a file has it."""
        return self._errors.get(key)

    def tolerance(self, key: str) -> float:
        """Returns the allowed absolute difference from `reference[key]`."""
        largest = float(np.abs(self[key]).max(initial=0))
        error = self._errors.get(key)
        return UNSTATED * largest if error is None else 4 * EPS * largest + FACTOR * error

    def gradient_tolerance(self, key: str) -> float | np.ndarray:
        """Returns the allowed absolute difference from a gradient, or from each of many norms.

        Where the input of a ReLU is as good as 0, rounding decides whether its unit passes the
        gradient on; one unit of some thousand moves a gradient by some 1e-3 of its size, and does
        so in one implementation and not in the other.
        """
        if f"error.{key}" in self:
            return FACTOR * self[f"error.{key}"] + KINK * self[key]
        if f"f64.{key}" in self:
            error = np.abs(self[f"f64.{key}"] - self[key])
            return FACTOR * error + KINK * self[f"f64.{key}"]
        return self.tolerance(key) + KINK * float(np.abs(self[key]).max())

    def assert_close(self, ours: np.ndarray, key: str, rows=slice(None)) -> None:
        """Fails where a result is farther from `reference[key]` than rounding explains."""
        np.testing.assert_allclose(
            ours, self[key][rows], rtol=0, atol=self.tolerance(key), err_msg=key
        )

    def assert_gradients_close(self, gradients: Mapping[str, np.ndarray], prefix: str = "") -> int:
        """Fails where gradients are farther from the reference's than rounding explains.

        Args:
            gradients: by the reference's names; of all arrays in `meta`'s gradient_names.
            prefix: of the keys `gradient_norms` and `gradient.<name>`.

        Returns:
            How many whole gradients there are to compare with.
        """
        key = f"{prefix}gradient_norms"
        norms = np.array([np.linalg.norm(gradients[name]) for name in self.meta["gradient_names"]])
        assert (np.abs(norms - self[key]) <= self.gradient_tolerance(key)).all(), key
        keys = list(self.keys(f"{prefix}gradient."))
        for key in keys:
            assert np.abs(self[key]).max() > 1e-6, key
            ours = gradients[key.removeprefix(f"{prefix}gradient.")]
            tolerance = self.gradient_tolerance(key)
            np.testing.assert_allclose(ours, self[key], rtol=0, atol=tolerance, err_msg=key)
        return len(keys)

    def matching_order(self, key: str, ours: np.ndarray, labels=None, our_labels=None):
        """Returns for each reference box the index of the only box of ours that is equal to it.

        Args:
            key: of the boxes [N, 4].
            ours: [N, 4], in any order.
            labels: [N] of the reference, and `our_labels`: boxes of two labels are never equal.
        """
        distance = np.abs(self[key][:, None] - ours[None]).max(-1)
        if labels is not None:
            distance = np.where(labels[:, None] == our_labels[None], distance, np.inf)
        assert len(ours) == len(self[key]), key
        order = distance.argmin(1)
        assert distance.min(1).max(initial=0) <= self.tolerance(key), key
        assert len(set(order)) == len(order), key
        return order
