"""The image files that are to be predicted on, and the names of the pictures drawn of them."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
_MOST_BYTES = 255  # of a file's name, on nearly all file systems


def find_images(paths: Iterable[str]) -> Iterator[Path]:
    """Yields the files given, and the image files of the folders given in order of their names.

    Hidden files of a folder are passed over (macOS leaves a `._x.jpg` beside each `x.jpg`), and so
    is what is no regular file.

    Args:
        paths: of files and folders.

    Raises:
        ValueError: there are none.
        FileNotFoundError: a path does not exist.
    """
    paths, found = list(paths), 0
    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if _is_image(file))
        elif path.exists():
            files = [path]
        else:
            raise FileNotFoundError(f"{path} does not exist; give image files or folders of them")
        found += len(files)
        yield from files
    if not found:
        raise ValueError(
            f"no images found in {', '.join(paths) or 'the arguments: there are none'}; give image "
            f"files, or folders with files that end in {', '.join(sorted(SUFFIXES))}"
        )


def _is_image(path: Path) -> bool:
    is_named_so = path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    return is_named_so and path.is_file()


def picture_names(paths: Iterable[Path]) -> list[str]:
    """Returns a file name for each image's picture, no two the same and none too long.

    Args:
        paths: of the images.
    """
    names, taken = [], set()
    for path in paths:
        name, number = _picture_name(path.stem, ".png"), 1
        while name.lower() in taken:  # some file systems know no difference of case
            number += 1
            name = _picture_name(path.stem, f"_{number}.png")
        taken.add(name.lower())
        names.append(name)
    return names


def _picture_name(stem: str, ending: str) -> str:
    """Returns a name of at most 255 bytes, without half a character at the cut."""
    content, most = os.fsencode(stem), _MOST_BYTES - len(ending)
    if len(content) > most:
        stem = content[:most].decode(errors="ignore") or "image"
    return stem + ending
