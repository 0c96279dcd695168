"""How objects are drawn: what of them, in which colours, how strongly."""

import colorsys
import re
from collections.abc import Sequence
from dataclasses import dataclass

RGB = tuple[int, int, int]

_GOLDEN = 0.618033988749895  # steps of this size never come back near an earlier hue for long

COLOR_BY = ("instance", "class")
# "colorblind": M. Okabe and K. Ito, "Color Universal Design" (2008), without black.
PALETTES: dict[str, tuple[RGB, ...]] = {
    "colorblind": (
        (230, 159, 0),
        (86, 180, 233),
        (0, 158, 115),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
        (204, 121, 167),
    ),
}


def color(index: int) -> RGB:
    """Returns the RGB colour, 0..255, that belongs to a number; neighbours differ strongly."""
    hue = (0.02 + index * _GOLDEN) % 1.0
    saturation = (0.85, 0.6, 1.0)[index % 3]
    value = (1.0, 0.9, 0.75)[index // 3 % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


@dataclass(frozen=True)
class Style:
    """What is drawn of objects, and how.

    Attributes:
        masks: tint each mask and outline it.
        boxes: outline each box.
        names: write the name of each class.
        scores: write each score.
        color_by: "instance": every object has its own colour; "class": every class has.
        palette: the colours, used in turn; None: as many as there are numbers (see `color`).
        line_width: of boxes and outlines, pixels of the picture; None: 1 for each 600 pixels of its
            long side.
        opacity: of the tint of masks, 0..1.
        splash: instead of all that, objects in colour while the rest is grey.

    Raises:
        ValueError: a value is outside what it may be.
    """

    masks: bool = True
    boxes: bool = True
    names: bool = True
    scores: bool = True
    color_by: str = "instance"
    palette: tuple[RGB, ...] | None = None
    line_width: int | None = None
    opacity: float = 0.45
    splash: bool = False

    def __post_init__(self):
        if self.color_by not in COLOR_BY:
            raise ValueError(f"color_by is {self.color_by!r}; expected one of {COLOR_BY}")
        if self.palette is not None and not self.palette:
            raise ValueError("palette is empty; at least one colour is needed")
        if self.line_width is not None and not 1 <= self.line_width <= 100:
            raise ValueError(f"line_width is {self.line_width}; expected 1 to 100 pixels")
        if not 0 <= self.opacity <= 1:
            raise ValueError(f"opacity is {self.opacity}; expected 0 to 1")

    def paints(self, numbers: Sequence[int]) -> list[RGB]:
        """Returns the colours of objects by their numbers."""
        if self.palette is None:
            return [color(number) for number in numbers]
        return [self.palette[number % len(self.palette)] for number in numbers]

    def width(self, height: int, width: int) -> int:
        """Returns the width of lines, pixels, in a picture of a size."""
        return self.line_width or max(1, round(max(height, width) / 600))


def palette(text: str) -> tuple[RGB, ...]:
    """Returns the colours of a name in `PALETTES`, or of a list such as "ff0000,#00ff00".

    Raises:
        ValueError: the text is neither.
    """
    if text in PALETTES:
        return PALETTES[text]
    found = [re.fullmatch("#?([0-9a-fA-F]{6})", part.strip()) for part in text.split(",")]
    if not all(found):
        raise ValueError(
            f"palette {text!r} is neither {' nor '.join(PALETTES)} nor a list of colours such as "
            "ff0000,0066cc"
        )
    red, green, blue = zip(*(bytes.fromhex(match[1]) for match in found if match), strict=True)
    return tuple(zip(red, green, blue, strict=True))
