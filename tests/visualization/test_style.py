"""Options of drawing: each one's effect, and what is refused."""

import numpy as np
import pytest

from maskrcnn_jax.cli import command
from maskrcnn_jax.visualization.drawing import draw_detections
from maskrcnn_jax.visualization.style import PALETTES, Style, color, palette

_BOX = np.array([[100, 200, 300, 400]], np.float32)


def _drawn(style: Style) -> np.ndarray:
    mask = np.zeros((600, 600), bool)
    mask[250:350, 150:250] = True
    image = np.full((600, 600, 3), 100, np.uint8)
    return draw_detections(image, _BOX, [mask], ["name"], np.array([0.5]), style=style)


@pytest.mark.parametrize(
    ("part", "where"),
    [
        ("masks", np.s_[300, 200]),
        ("boxes", np.s_[200, 250]),
        ("names", np.s_[186:198, 104:150]),
        ("scores", np.s_[186:198, 104:150]),
    ],
)
def test_each_part_is_drawn_or_not(part, where):
    off = dict.fromkeys(("masks", "boxes", "names", "scores"), False)
    assert (_drawn(Style(**off)) == 100).all()
    assert (_drawn(Style(**{**off, part: True}))[where] != 100).any()
    only = _drawn(Style(**{**off, part: True})) != 100
    assert (only & (_drawn(Style()) == 100)).sum() <= only.sum() // 2  # of the whole picture


def test_lines_and_tints_follow_their_numbers():
    picture = _drawn(Style(line_width=9, opacity=1.0, palette=((10, 20, 30),)))
    assert (picture[196:204, 250] == (10, 20, 30)).all()
    assert (picture[300, 200] == (10, 20, 30)).all()
    assert (_drawn(Style(opacity=0.0))[300, 200] == 100).all()


def test_palettes_are_used_in_turn():
    assert palette("ff0000, #00ff10") == ((255, 0, 0), (0, 255, 16))
    assert Style(palette=palette("ff0000,00ff10")).paints([0, 1, 2])[2] == (255, 0, 0)
    assert Style(palette=PALETTES["colorblind"]).paints([8]) == [(86, 180, 233)]
    assert Style().paints([4]) == [color(4)]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--palette=rainbow"], "palette 'rainbow' is neither colorblind nor a list of colours"),
        (["--palette="], "palette '' is neither"),
        (["--opacity=1.5"], "opacity is 1.5; expected 0 to 1"),
        (["--opacity=nan"], "opacity is nan"),
        (["--line_width=0"], "line_width is 0; expected 1 to 100 pixels"),
    ],
)
def test_flags_that_do_not_fit_are_told(flags, said):
    parser = command.parser("")
    command.add_drawing(parser)
    with pytest.raises(ValueError, match=said):
        command.drawing_style(parser.parse_args(flags))


def test_flags_make_a_style():
    parser = command.parser("")
    command.add_drawing(parser)
    assert command.drawing_style(parser.parse_args([])) == Style()
    flags = "--no-masks --no-boxes --no-names --no-scores --color_by=class --splash --line_width=3"
    style = Style(False, False, False, False, "class", ((255, 0, 0),), 3, 0.2, True)
    given = [*flags.split(), "--palette=ff0000", "--opacity=0.2"]
    assert command.drawing_style(parser.parse_args(given)) == style
