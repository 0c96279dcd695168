"""Where the recipes lie, and which one the command line means."""

import difflib
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def folder() -> Path:
    """Returns the folder of the recipes: `configs/` of a clone, or their copy in the package."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def names() -> list[str]:
    """Returns the names of the recipes, in alphabetical order."""
    return sorted(path.stem for path in folder().glob("*.py") if not path.stem.startswith("_"))


def find(given: str) -> str:
    """Returns the file that `--config` names, with the argument of the recipe.

    Args:
        given: a file or the name of a recipe; both may be followed by a colon and an argument:
            `configs/coco.py:3x`, `coco:3x`, `coco`.

    Returns:
        The same with the recipe's file in place of its name.

    Raises:
        ValueError: there is no such file or recipe; the message has the nearest names.
    """
    name, colon, argument = given.partition(":")
    path = Path(name).expanduser()
    if not path.is_file() and name in names():
        path = folder() / f"{name}.py"
    if not path.is_file():
        kind = "file" if path.suffix == ".py" or len(path.parts) > 1 else "recipe"
        near = difflib.get_close_matches(path.stem, names(), cutoff=0.5)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"--config={given}: there is no such {kind}; {guess}{known()}")
    return f"{path}{colon}{argument}"


def known() -> str:
    """Returns what `--config` can be, for a message."""
    return f"the recipes are {', '.join(names())}; a file of your own is given by its path"
