"""Bar charts, and pages of them."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BLACK, _GREY = (0, 0, 0), (120, 120, 120)
_PAINTS = ((60, 110, 180), (230, 140, 40), (80, 160, 90))
_WIDTH, _BAR, _GAP = 640, 14, 6  # pixels: of a chart, across a bar, and between two rows of bars
_LABELS, _VALUES = 170, 90  # pixels to the left and right of the bars
_HEAD, _MARGIN = 34, 14


def bar_chart(
    title: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    form: str = "{:,.0f}",
) -> np.ndarray:
    """Draws rows of horizontal bars with their values.

    Args:
        title: stands above.
        labels: n names of rows; long ones are cut.
        series: up to three times n values from 0 on, by what they are; several are drawn below
            each other in each row, and named beside the title.
        form: of a value, as `str.format` takes it.

    Returns:
        `[h, 640, 3]` uint8, RGB.

    Raises:
        ValueError: there are more than three series, or one has not n values.
    """
    if len(series) > len(_PAINTS) or any(len(values) != len(labels) for values in series.values()):
        shapes = {name: len(values) for name, values in series.items()}
        raise ValueError(f"{shapes} values for {len(labels)} rows; expected 1 to 3 series of these")
    row = _BAR * len(series) + _GAP
    chart = np.full((_HEAD + row * len(labels) + _MARGIN, _WIDTH, 3), 255, np.uint8)
    _write(chart, title, (_MARGIN, 22), _BLACK, 0.55)
    if len(series) > 1:
        for i, name in enumerate(series):
            _write(chart, name, (_WIDTH - 110 * (len(series) - i), 22), _PAINTS[i], 0.5)
    most = max((value for values in series.values() for value in values), default=0) or 1
    scale = (_WIDTH - _LABELS - _VALUES) / most
    for i, label in enumerate(labels):
        top = _HEAD + i * row
        _write(chart, _cut(label), (_MARGIN, top + row // 2 + 2), _BLACK, 0.42)
        for j, values in enumerate(series.values()):
            y, end = top + j * _BAR, _LABELS + round(values[i] * scale)
            if end > _LABELS:
                cv2.rectangle(chart, (_LABELS, y), (end - 1, y + _BAR - 3), _PAINTS[j], cv2.FILLED)
            _write(chart, form.format(values[i]), (end + 6, y + _BAR - 3), _GREY, 0.4)
    return chart


def histogram_chart(title: str, values: np.ndarray, words: str = "", bins: int = 60) -> np.ndarray:
    """Draws how often values occur, from the smallest to the largest.

    Args:
        title: stands above; a long one is cut.
        values: numbers of any shape; those that are not finite are left out.
        words: stand below the title.
        bins: bars.

    Returns:
        `[150, 320, 3]` uint8, RGB.
    """
    chart = np.full((150, 320, 3), 255, np.uint8)
    _write(chart, title[:44], (8, 16), _BLACK, 0.4)
    _write(chart, words, (8, 32), _GREY, 0.38)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return chart
    counts, edges = np.histogram(finite.astype(np.float64), bins)
    for i, height in enumerate(np.rint(88 * counts / counts.max()).astype(int).tolist()):
        if height:
            left = 10 + i * 300 // bins
            right = max(left, 8 + (i + 1) * 300 // bins)
            cv2.rectangle(chart, (left, 130 - height), (right, 129), _PAINTS[0], cv2.FILLED)
    cv2.line(chart, (10, 130), (310, 130), _GREY)
    for x, edge in ((10, edges[0]), (240, edges[-1])):
        _write(chart, f"{edge:.3g}", (x, 144), _GREY, 0.38)
    return chart


def page(charts: Sequence[np.ndarray], columns: int = 2) -> np.ndarray:
    """Joins charts of one width to a page, each in the column that is shortest so far.

    Args:
        charts: `[h, w, 3]` uint8, RGB, at least one.
        columns: how many there are beside each other.

    Returns:
        `[H, W, 3]` uint8, RGB.
    """
    stacks: list[list[np.ndarray]] = [[] for _ in range(columns)]
    for chart in charts:
        min(stacks, key=lambda stack: sum(map(len, stack))).append(chart)
    height = max(sum(map(len, stack)) for stack in stacks)
    width = charts[0].shape[1]
    blank = np.full((height, width, 3), 255, np.uint8)
    return np.concatenate([np.concatenate([*stack, blank])[:height] for stack in stacks], 1)


def _cut(label: str) -> str:
    """Returns as much of a label as fits beside the bars."""
    while cv2.getTextSize(label, _FONT, 0.42, 1)[0][0] > _LABELS - 2 * _MARGIN:
        label = label.removesuffix("..")[:-1] + ".."
    return label


def _write(chart, text, origin, ink, size) -> None:
    cv2.putText(chart, text, origin, _FONT, size, ink, 1, cv2.LINE_AA)
