"""Opening files that anybody may have made, and writing files so that nobody sees half of one."""

import errno
import os
import stat
import tempfile
from pathlib import Path

# It can only be read by setting it, which other threads that make files must not see: once, here.
_UMASK = os.umask(0o077)
os.umask(_UMASK)

# Windows has neither of these. Without the first, opening a FIFO waits for a writer.
_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)

_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def regular(path: str | Path, flags: int) -> int:
    """Opens a regular file, or a link to one: the `opener` of `open` for files that are read.

    A FIFO or a device under the name of an image would be waited for, or read without end. The
    check is of the open file, which nobody can replace any more.

    Args:
        path: of the file.
        flags: of `os.open`.

    Returns:
        Its descriptor.

    Raises:
        ValueError: it is something else.
        OSError: it is not there, a folder, or may not be opened.
    """
    descriptor = os.open(path, flags | _NO_WAITING, 0o666)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no regular file")
            raise ValueError(f"{path} is {kind}, which is not read; expected a regular file")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def own(path: str | Path, flags: int) -> int:
    """Opens a regular file that no other name leads to: the `opener` for files that are written.

    A folder that somebody else has packed can hold a link where a run writes its log, and the file
    behind it would be overwritten.

    Args:
        path: of the file.
        flags: of `os.open`.

    Returns:
        Its descriptor.

    Raises:
        OSError: it is a link or has several names, is no regular file, or may not be opened.
    """
    truncates = flags & os.O_TRUNC
    try:
        descriptor = regular(path, (flags & ~os.O_TRUNC) | _NO_LINKS)
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error)) from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, f"{path} is a link, and nothing is written there") from error
        raise
    try:
        if os.fstat(descriptor).st_nlink > 1:
            raise OSError(errno.EMLINK, f"{path} has other names (hard links); move it away")
        if truncates:
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def refuse_links(*places: str | Path) -> None:
    """Checks that nothing that is to be written into leads elsewhere.

    Args:
        places: files and folders, which need not exist; what is in the folders counts as well.

    Raises:
        OSError: naming a link.
    """
    for place in places:
        inner = (os.path.join(base, n) for base, d, f in os.walk(place) for n in (*d, *f))
        found = next((path for path in (os.fspath(place), *inner) if os.path.islink(path)), None)
        if found is not None:
            raise OSError(
                errno.ELOOP,
                f"{found} is a link to {os.readlink(found)}, and nothing is written through links: "
                "put what it leads to in its place, or give another folder",
            )


def check_regular(folder: str | Path) -> None:
    """Checks that a folder that a library is to read holds nothing but folders and regular files.

    Args:
        folder: in which links to regular files may be, as caches of downloads have them.

    Raises:
        ValueError: naming a FIFO, a device, or a link to one or to a folder.
    """
    for base, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = os.path.join(base, name)
            try:
                mode = os.stat(path).st_mode
            except FileNotFoundError:  # another process has just removed it; or a link to nothing
                continue
            if not (stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and not os.path.islink(path))):
                raise ValueError(f"{path} is neither a regular file nor a folder; move it away")


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Writes a file beside its place and moves it there; its folders are made as needed.

    Args:
        path: of the file; where it is a link, the link is replaced.
        content: text (written as UTF-8) or bytes.

    Raises:
        OSError: the file cannot be written; whatever stood there before is untouched.
    """
    try:
        _write_atomically(Path(path), content)
    except OSError as error:
        if error.errno is None:
            raise
        # A full disk would name no file, and an error of the temporary file another one.
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def _write_atomically(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Names out of files may hold what is no character, which UTF-8 cannot say.
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    # Without the file's own name, which may have all the bytes that a name can have.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
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
    place = next(path.parent / name for name in names if not os.path.lexists(path.parent / name))
    path.rename(place)
    return place
