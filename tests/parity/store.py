"""What rounding does to reference values, and how they are stored (numpy only)."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

Values = Mapping[str, np.ndarray]


def rounding_error(exact: Values, *rounded: Values) -> dict[str, float | None]:
    """Returns the largest absolute difference of each array; None where a shape or integer differs.

    Args:
        exact: name -> array, of float64 arithmetic.
        *rounded: the same of float32 arithmetic, once or more.
    """
    worst = {}
    for name, a in exact.items():
        errors = [_difference(a, values[name]) for values in rounded]
        worst[name] = None if None in errors else max(errors)
    return worst


def _difference(a: np.ndarray, b: np.ndarray) -> float | None:
    if np.shape(a) != np.shape(b):
        return None
    difference = np.abs(np.asarray(a, np.float64) - b).max(initial=0)
    is_whole = np.asarray(a).dtype.kind in "biu"
    return None if is_whole and difference else float(difference)


def single(values: Values) -> dict[str, np.ndarray]:
    """Returns the values with float64 arrays rounded to float32, scalars excepted."""
    return {
        name: array.astype(np.float32) if array.dtype == np.float64 and array.ndim else array
        for name, array in values.items()
    }


def write(path: Path, meta: Mapping, values: Values) -> None:
    """Writes an .npz, a tenth smaller than NumPy's own compression, and says how large it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"meta": np.array(json.dumps(meta)), **values}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB, {len(values)} arrays")
