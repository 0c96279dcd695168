"""The work directory that a conversion makes: checked before anything is read, and never half."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskrcnn_jax.checkpoints.layout import BEST, LAST


def check_new(out: str | Path) -> None:
    """Checks that a folder can become a work directory.

    Raises:
        ValueError: it is a file, or has checkpoints.
        OSError: it cannot be made or written to.
    """
    out = Path(out).expanduser()
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out={out} is a file; give the name of a folder")
    check_place(out)
    for folder in (out / LAST, out / BEST):
        if folder.exists():
            raise ValueError(f"{folder} exists already; give the name of a new folder as --out")


def check_place(out: Path) -> None:
    """Checks that a file or folder can be made: the nearest folder that exists can be written to.

    Raises:
        OSError: it cannot.
    """
    out = out.absolute()
    nearest = next(path for path in (out, *out.parents) if path.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f"--out={out} cannot be made: {nearest} is a file, not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"--out={out} cannot be made: {nearest} cannot be written to")


@contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """Yields a folder that becomes OUT/checkpoints in the end, or of which nothing is left.

    Raises:
        ValueError, OSError: as `check_new`.
    """
    out = Path(out).expanduser().absolute()
    check_new(out)
    is_new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out, prefix=".import-"))
    except OSError as error:
        raise OSError(f"--out={out} cannot be made: {error}") from error
    try:
        yield temporary / LAST
        (temporary / LAST).rename(out / LAST)
    finally:
        shutil.rmtree(temporary)
        if is_new and not (out / LAST).exists():
            out.rmdir()
