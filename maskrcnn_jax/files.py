"""Writing files so that a reader never sees half of one."""

import os
import tempfile
from pathlib import Path

# It can only be read by setting it, which other threads that make files must not see: once, here.
_UMASK = os.umask(0o077)
os.umask(_UMASK)


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Writes a file beside its place and moves it there; its folders are made as needed.

    Args:
        path: of the file.
        content: text (written as UTF-8) or bytes.

    Raises:
        OSError: the file cannot be written; whatever stood there before is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave an empty file in its place
        os.chmod(temporary, 0o666 & ~_UMASK)  # mkstemp gives 0600
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def set_aside(path: str | Path) -> Path:
    """Gives a file the next free name like its own: `log.txt` becomes `log-1.txt`, or `log-2.txt`.

    Args:
        path: of the file.

    Returns:
        Where it is now.

    Raises:
        OSError: it cannot be moved.
    """
    path = Path(path)
    names = (f"{path.stem}-{number}{path.suffix}" for number in range(1, 10_000))
    place = next(path.parent / name for name in names if not (path.parent / name).exists())
    path.rename(place)
    return place
