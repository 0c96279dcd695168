"""Paths that users and annotation files give."""

import os
from pathlib import Path


def path_in(folder: str | Path, name: str) -> str:
    """Returns the path of a file that annotations name, refusing names that leave the folder.

    Args:
        folder: of the dataset.
        name: relative to it. Links inside the folder are followed: whoever made them meant them.

    Raises:
        ValueError: the name is absolute, or climbs out of the folder.
    """
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or ":" in parts[0] or ".." in parts or "\0" in name:
        raise ValueError(
            f"file name {name!r} leads out of {folder}; expected a path relative to that folder"
        )
    return os.path.join(folder, name)


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
    parent = os.path.abspath(full)
    if not os.path.exists(parent):
        found = "does not exist"
    else:
        found = "is a file" if is_folder else "is a folder"
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    names = sorted(os.listdir(parent))
    shown = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    raise ValueError(
        f"{key} is {os.fspath(path)!r}, which {found}; expected a "
        f"{'folder' if is_folder else 'file'}. In {parent} there is: {shown or 'nothing'}"
    )
