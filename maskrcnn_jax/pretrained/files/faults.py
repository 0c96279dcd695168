"""Faults that weight files of every format have in common."""

from pathlib import Path

# All arrays together against their file: compressed HDF5 and shared tensors may be honestly larger.
_MAX_EXPANSION = 8


def damaged(path: Path, expected: str, error: Exception) -> ValueError:
    """Returns the error for a file that its format's reader fails on.

    Args:
        path: of the file.
        expected: what it was read as.
        error: of the reader.
    """
    return ValueError(
        f"{path} cannot be read as {expected} ({type(error).__name__}: {error}): it is truncated "
        "or damaged; download or copy it again"
    )


def check_expansion(path: Path, num_bytes: int) -> None:
    """Checks that a file does not claim arrays far larger than itself.

    Args:
        path: of the file.
        num_bytes: that its arrays take in memory.

    Raises:
        ValueError: that is more than 8 times the size of the file.
    """
    size = path.stat().st_size
    if num_bytes > _MAX_EXPANSION * size:
        raise ValueError(
            f"{path} has {size} bytes and claims arrays of {num_bytes} bytes; expected at most "
            f"{_MAX_EXPANSION} times as many as it has: it is damaged, or made to exhaust memory; "
            "get it from another source"
        )
