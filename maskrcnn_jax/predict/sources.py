"""What the arguments of `predict.py` name: image files, folders, patterns, addresses, videos.

Hidden files of a folder are passed over (macOS leaves a `._x.jpg` beside each `x.jpg`), and so is
what is no regular file; a folder's own folders are searched as well.
"""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from maskrcnn_jax.console import printable

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
VIDEOS = {".mp4", ".avi", ".mov", ".webm", ".mkv", ".m4v"}
CAMERA = "camera:"
_ADDRESSES = ("http://", "https://")
_NUMBERED = re.compile(r"%(0\d+)?d")
_MOST_BYTES = 255 - 16  # of a file's name on nearly all file systems, with room for its endings
_EXPECTED = (
    f"give image files ({', '.join(sorted(IMAGES))}), videos ({', '.join(sorted(VIDEOS))}), "
    "folders of them, patterns such as 'scans/*.png', addresses, numbered frames such as "
    f"frames/%04d.png, or {CAMERA}0"
)


class Source(NamedTuple):
    """One thing to predict on.

    Attributes:
        kind: image | address | video | sequence | camera; the first two are one image each.
        place: path, address, pattern of paths, or number of the camera.
        name: of what is written, a relative path without suffix; no two are the same.
    """

    kind: str
    place: str
    name: str

    @property
    def is_image(self) -> bool:
        """Whether it is one image."""
        return self.kind in ("image", "address")

    def __str__(self) -> str:
        return CAMERA + self.place if self.kind == "camera" else self.place


class PassedOver:
    """What was found in folders and is not predicted on."""

    def __init__(self) -> None:
        self.hidden = 0
        self.others: list[str] = []

    def __str__(self) -> str:
        """One line, empty where there is nothing."""
        parts = [f"{self.hidden:,} hidden"] if self.hidden else []
        if self.others:
            named = ", ".join(map(printable, self.others[:3]))
            more = ", ..." if len(self.others) > 3 else ""
            parts.append(f"{len(self.others):,} neither image nor video ({named}{more})")
        return f"passed over: {', '.join(parts)}" if parts else ""


def find(arguments: Sequence[str], out: Path | None = None) -> tuple[list[Source], PassedOver]:
    """Returns what the arguments name, in their order, folders in that of their names.

    Args:
        arguments: of the command line.
        out: the folder for results, which is not searched.

    Raises:
        ValueError: there is nothing, or an argument is not understood.
        FileNotFoundError: a path does not exist.
    """
    passed_over = PassedOver()
    found = [source for given in arguments for source in _named(str(given), passed_over, out)]
    if not found:
        raise ValueError(
            f"no images found in {', '.join(arguments) or 'the arguments: there are none'}; "
            + _EXPECTED
        )
    names = unique_names(source.name for source in found)
    return [source._replace(name=n) for source, n in zip(found, names, strict=True)], passed_over


def _named(given: str, passed_over: PassedOver, out: Path | None) -> Iterator[Source]:
    path = Path(given)
    if given.startswith(_ADDRESSES):
        yield _address(given)
    elif given.startswith(CAMERA):
        yield _camera(given)
    elif path.is_dir():
        yield from _in_folder(path, passed_over, out)
    elif path.exists():
        yield _file(path, path.stem)
    elif _NUMBERED.search(path.name):
        yield Source(
            "sequence", given, _NUMBERED.sub("", path.stem).strip("_- ") or path.parent.name
        )
    elif glob.has_magic(given):
        for match in _matches(given):
            yield from _named(match, passed_over, out)
    else:
        raise FileNotFoundError(f"{given} does not exist; {_EXPECTED}")


def _matches(pattern: str) -> list[str]:
    found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise FileNotFoundError(f"nothing matches {pattern}; {_EXPECTED}")
    return found


def _file(path: Path, name: str) -> Source:
    return Source("video" if path.suffix.lower() in VIDEOS else "image", str(path), name)


def _address(given: str) -> Source:
    path = Path(unquote(urlsplit(given).path))
    if path.suffix.lower() in VIDEOS:
        raise ValueError(f"{given}: videos are read from files; download it and give the file")
    return Source("address", given, path.stem.replace("\0", "") or "image")


def _camera(given: str) -> Source:
    number = given.removeprefix(CAMERA)
    if not (number.isascii() and number.isdigit()):
        raise ValueError(f"{given} is no camera; expected {CAMERA}0 for the first, {CAMERA}1, ...")
    return Source("camera", number, f"camera_{number}")


def _in_folder(folder: Path, passed_over: PassedOver, out: Path | None) -> Iterator[Source]:
    for base, folders, files in os.walk(folder):
        passed_over.hidden += sum(name.startswith(".") for name in folders + files)
        here = Path(base)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not _is(here / name, out)
        )
        for name in sorted(files):
            path = here / name
            if name.startswith("."):
                continue
            if path.suffix.lower() in IMAGES | VIDEOS and path.is_file():
                yield _file(path, str(path.relative_to(folder).with_suffix("")))
            else:
                passed_over.others.append(name)


def _is(folder: Path, out: Path | None) -> bool:
    return out is not None and folder.resolve() == out.resolve()


def unique_names(names: Iterable[str]) -> list[str]:
    """Returns the names with numbers where two are the same, none too long for a file.

    Args:
        names: relative paths without suffixes.
    """
    unique, taken = [], set()
    for given in names:
        folder, stem = os.path.split(given)
        name, number = os.path.join(folder, _shortened(stem)), 1
        while name.lower() in taken:  # some file systems know no difference of case
            number += 1
            name = os.path.join(folder, _shortened(stem, f"_{number}"))
        taken.add(name.lower())
        unique.append(name)
    return unique


def _shortened(stem: str, ending: str = "") -> str:
    """Returns a name that is not too long, without half a character at the cut."""
    content, most = os.fsencode(stem), _MOST_BYTES - len(ending)
    if len(content) > most:
        stem = content[:most].decode(errors="ignore") or "image"
    return stem + ending


def frames_of(pattern: str) -> list[Path]:
    """Returns the files of numbered frames, such as `frames/%04d.png`, in order of their numbers.

    Raises:
        FileNotFoundError: there are none.
    """
    path = Path(pattern)
    start, end = _NUMBERED.split(path.name)[0], _NUMBERED.split(path.name)[-1]
    frame = re.compile(re.escape(start) + r"(\d+)" + re.escape(end))
    found = [
        (int(match[1]), file)
        for file in _files_of(path.parent)
        if (match := frame.fullmatch(file.name))
    ]
    if not found:
        raise FileNotFoundError(f"no file is named as {pattern}; expected frames/0001.png, say")
    return [file for _, file in sorted(found)]


def _files_of(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
