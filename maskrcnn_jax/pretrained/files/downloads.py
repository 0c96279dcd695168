"""Published weights by name: downloaded once to the user's cache, and checked at every use.

Where the publisher gives no digest to check against, a name only tells where the file is.
"""

import difflib
import hashlib
import http.client
import os
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from maskrcnn_jax.compilation import ENVIRONMENT, user_cache
from maskrcnn_jax.pretrained.files.published import NAMES, Published
from maskrcnn_jax.pretrained.files.weight_files import ENDINGS, check_reader

_CHUNK = 2**20
_TIMEOUT = 30  # seconds without a byte


def cache_folder() -> Path:
    """Returns where downloaded weights are kept.

    `weights` in the folder that the environment variable `MASKRCNN_JAX_CACHE` names, else in
    `maskrcnn_jax` in the user's cache folder.
    """
    choice = os.environ.get(ENVIRONMENT, "")
    base = user_cache() if choice in ("", "off") else Path(choice).expanduser()
    return base / "weights"


def fetch(name: str, log: Callable[[str], None] | None = None) -> Path:
    """Returns a published file of weights, downloading it where the cache does not hold it.

    Args:
        name: one of `NAMES`.
        log: takes what happens, a line each; standard error unless given.

    Returns:
        The file, whose digest is the published one.

    Raises:
        ValueError: there is no such name, its digest is not known, a file has another one, or the
            package that reads the file is not installed.
        OSError: it cannot be downloaded or written; the message says what to put where by hand.
    """
    log = log or (lambda line: print(line, file=sys.stderr))
    if name not in NAMES:
        raise ValueError(f"{name!r} is no name of published weights; {_suggestion(name)}")
    published, path = NAMES[name], cache_folder() / NAMES[name].file_name
    digest = published.digest
    if digest is None:
        raise ValueError(
            f"{name} is not downloaded by its name, since its publisher gives no digest to check "
            f"it against. Download {published.url} yourself and give the file's path"
        )
    check_reader(published.file_name)
    if path.is_file():
        _check_cached(path, published.url, digest)
        return path
    try:
        _download(name, published, digest, path, log)
    except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
        raise OSError(
            f"{name} could not be downloaded from {published.url} ({error}). Without a "
            f"connection: get that file elsewhere and put it at {path}; its "
            f"{_words(digest)}"
        ) from error
    return path


def nowhere(source: str) -> str:
    """Returns what to say of a source that is neither on the disk nor among `NAMES`.

    Args:
        source: as the user gave it.
    """
    is_path = any(s in source for s in ("/", os.sep)) or Path(source).suffix in ENDINGS
    if is_path:
        return f"there is no file or folder {source!r}; check the path"
    return (
        f"there is no file or folder {source!r}, and no published weights of that name; "
        f"{_suggestion(source)}"
    )


def _suggestion(name: str) -> str:
    near = difflib.get_close_matches(name, NAMES, n=2)
    return f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(NAMES)}"


def _check_cached(path: Path, url: str, digest: tuple[str, str]) -> None:
    algorithm, digits = digest
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if not found.startswith(digits):
        raise ValueError(
            f"{path} is not the file that {url} should give: its {algorithm.upper()} is "
            f"{found}, but the {_words(digest)}. Delete it, and it is downloaded again"
        )


def _download(
    name: str,
    published: Published,
    digest: tuple[str, str],
    path: Path,
    log: Callable[[str], None],
) -> None:
    """Writes the file beside its place, checks it and moves it there; else leaves nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            log(f"{name}: downloading {published.url}")
            found = _receive(name, published, file)
        algorithm, digits = digest
        if not found[algorithm].startswith(digits):
            raise ValueError(
                f"{published.url} gave a file whose {algorithm.upper()} is {found[algorithm]}, but "
                f"the {_words(digest)}. It was not kept: the file was changed on its "
                f"way or at its source"
            )
        os.chmod(temporary, 0o644)  # mkstemp gives 0600
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    log(f"{name}: {path}, SHA-256 {found['sha256']}")


def _receive(name: str, published: Published, file: BinaryIO) -> dict[str, str]:
    """Writes what the address gives; returns its digests by algorithm."""
    digests = {algorithm: hashlib.new(algorithm) for algorithm in ("sha256", "md5")}
    with urllib.request.urlopen(published.url, timeout=_TIMEOUT) as response:
        announced = response.headers.get("Content-Length")
        size = int(announced) if announced else published.size
        received = 0
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            received += len(chunk)
            for digest in digests.values():
                digest.update(chunk)
            _show_progress(name, received, size)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    # A connection that was closed early looks like an end.
    if size is not None and received != size:
        raise OSError(f"the download ended after {received} of {size} bytes")
    return {algorithm: digest.hexdigest() for algorithm, digest in digests.items()}


def _show_progress(name: str, received: int, size: int | None) -> None:
    """Overwrites one line of a terminal."""
    if sys.stderr.isatty():
        of = f" of {size / 2**20:.0f}" if size else ""
        line = f"\r{name}: {received / 2**20:.0f}{of} MiB"
        print(line, end="", file=sys.stderr, flush=True)


def _words(digest: tuple[str, str]) -> str:
    algorithm, digits = digest
    is_whole = len(digits) == 2 * hashlib.new(algorithm).digest_size
    return f"published {algorithm.upper()} {'is' if is_whole else 'begins with'} {digits}"
