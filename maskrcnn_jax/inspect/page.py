"""Views as PNG files and one HTML page, which needs no network."""

import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskrcnn_jax.files import write_atomically
from maskrcnn_jax.images.png import encode_png

_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px sans-serif; max-width: 1400px; margin: 2em auto; padding: 0 1em }}
img {{ max-width: 100%; border: 1px solid #ccc }}
p {{ max-width: 60em; white-space: pre-line }}
</style>
<h1>{title}</h1>
<p>{words}</p>
"""
_VIEW = '<h2>{title}</h2>\n<p>{legend}</p>\n<a href="{file}"><img src="{file}" alt="{title}"></a>\n'


class View(NamedTuple):
    """A picture with its words.

    Attributes:
        title: what is seen, short; also gives the file its name.
        legend: what colours and numbers mean.
        picture: `[h, w, 3]` uint8, RGB.
    """

    title: str
    legend: str
    picture: np.ndarray


def write_page(out: Path, name: str, title: str, words: str, views: Iterable[View]) -> Path:
    """Writes `out/name.html` and its pictures, `out/name/01_title.png` and so on.

    Args:
        out: the folder.
        name: of the page.
        title: stands above.
        words: stand below the title: what was looked at.
        views: in their order; drawn and written one after the other.

    Returns:
        The page.

    Raises:
        OSError: a file cannot be written.
    """
    parts = [_HEAD.format(title=escape(title), words=escape(words))]
    for number, view in enumerate(views, 1):
        plain = re.sub(r"[^A-Za-z0-9]+", "_", view.title).strip("_").lower()[:60]
        file = f"{name}/{number:02d}_{plain}.png"
        write_atomically(out / file, encode_png(view.picture))
        parts.append(_VIEW.format(title=escape(view.title), legend=escape(view.legend), file=file))
    path = out / f"{name}.html"
    write_atomically(path, "".join(parts))
    return path
