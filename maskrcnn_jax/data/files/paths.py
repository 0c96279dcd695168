"""Paths that users and annotation files give."""

import difflib
import os
import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote

from maskrcnn_jax.faults import FaultError, FaultKind

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")  # ends of file names
# Names that can be read in one way: nothing is looked up, which costs on a network's disk.
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_. -]*(/[A-Za-z0-9_-][A-Za-z0-9_. -]*)*")


def path_in(folder: str | Path, name: str) -> str:
    """Returns the path of a file that annotations name, refusing names that leave the folder.

    Names come from other systems and programs: backslashes, a leading `.`, absolute paths of
    another machine, accents written apart from their letters, `%20` for a blank. Whichever reading
    of the name is in the folder is taken; the name as it stands, before all others.

    Args:
        folder: of the dataset.
        name: relative to it, or an absolute path whose end is. Links inside the folder are
            followed: whoever made them meant them.

    Raises:
        ValueError: the name climbs out of the folder, or is absolute and no end of it is there.
    """
    if _PLAIN.fullmatch(name) and ".." not in name:
        return os.path.join(folder, name)
    if "\0" not in name and not _leaves(name) and os.path.lexists(os.path.join(folder, name)):
        return os.path.join(folder, *_parts(name))  # a backslash, say, that is part of the name
    readings = dict.fromkeys([name.replace("\\", "/"), unquote(name).replace("\\", "/")])
    for reading in readings:
        found = _found(folder, reading)
        if found is not None:
            return found
    first = next(iter(readings))
    if _leaves(first) or "\0" in name:
        raise FaultError(
            FaultKind.FILE_OUTSIDE,
            f"file name {name!r} leads out of {folder}; expected a path relative to that folder",
        )
    return os.path.join(folder, *_parts(first))


def _leaves(name: str) -> bool:
    """Returns whether a name is absolute, here or on Windows, or climbs."""
    parts = name.replace("\\", "/").split("/")
    return parts[0] == "" or ":" in parts[0] or ".." in parts


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _found(folder: str | Path, name: str) -> str | None:
    """Returns the file that a name with "/" between its parts means, if it is in the folder."""
    if ".." in name.split("/") or "\0" in name:
        return None
    parts = _parts(name)
    ends = range(len(parts)) if _leaves(name) else range(1)
    for first in ends:  # the longest end of an absolute path comes first
        path = os.fspath(folder)
        for part in parts[first:]:
            forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
            there = (os.path.join(path, form) for form in forms)
            path = next(filter(os.path.lexists, there), "")
            if not path:
                break
        if path and first < len(parts):
            return path
    return None


def existing(path: str | Path, key: str, is_folder: bool) -> str:
    """Returns the path with `~` expanded, if there is such a file or folder.

    Args:
        path: as the user gave it.
        key: the configuration's key that it came from, for the message.
        is_folder: whether a folder is expected, or a file.

    Raises:
        ValueError: there is none; the message shows what there is nearest to it.
    """
    full = os.path.expanduser(os.fspath(path))
    if os.path.isdir(full) if is_folder else os.path.isfile(full):
        return full
    wanted = parent = os.path.abspath(full)
    if not os.path.exists(parent):
        found = "does not exist"
    else:
        found = "is a file" if is_folder else "is a folder"
    while not os.path.isdir(parent):
        wanted, parent = parent, os.path.dirname(parent)
    names = _nearest(os.path.basename(wanted) if wanted != parent else "", parent, is_folder)
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    raise FaultError(
        FaultKind.MISSING_FILE,
        f"{key} is {os.fspath(path)!r}, which {found}; expected a "
        f"{'folder' if is_folder else 'file'}. In {parent} there is: {shown or 'nothing'}",
    )


def _nearest(wanted: str, parent: str, is_folder: bool) -> list[str]:
    """Returns the names in a folder that are like one, or else all that are not hidden."""
    names = sorted(name for name in os.listdir(parent) if not name.startswith("."))
    if is_folder:
        names = [name for name in names if os.path.isdir(os.path.join(parent, name))] or names
    return difflib.get_close_matches(wanted, names) or names


def files_in(folder: str | Path, *suffixes: str) -> list[str]:
    """Returns the files of a folder and of the folders in it, sorted.

    Hidden files and folders are left out, and so are linked folders, which could go in circles.

    Args:
        folder: of the dataset.
        suffixes: how the names end, in lower case, whatever the case of the files'.

    Returns:
        Paths relative to the folder, with "/" between their parts.
    """
    found = []
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        wanted = (n for n in names if n.lower().endswith(suffixes) and not n.startswith("."))
        found += [os.path.relpath(os.path.join(base, name), folder) for name in wanted]
    return sorted(name.replace(os.sep, "/") for name in found)


def stem(name: str) -> str:
    """Returns a file's name without its suffix, accents in one form, so that names can be matched.

    A name that has no suffix of a picture stays whole: `scan.2` has none.
    """
    base, suffix = os.path.splitext(name)
    return unicodedata.normalize("NFC", base if suffix.lower() in (*PICTURES, ".npy") else name)


def by_stem(folder: str | Path) -> dict[str, str]:
    """Returns the image files of a folder by their names without suffixes (see `stem`)."""
    return {stem(name): name for name in pictures(folder)}


def pictures(folder: str | Path) -> list[str]:
    """Returns the names of the image files of a folder, sorted; none where there is no folder."""
    if not os.path.isdir(folder):
        return []
    names = (entry.name for entry in os.scandir(folder))
    return sorted(n for n in names if n.lower().endswith(PICTURES) and not n.startswith("."))
