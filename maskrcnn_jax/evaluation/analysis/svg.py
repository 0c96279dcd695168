"""Charts as SVG, which a page holds without any script or file."""

from collections.abc import Sequence
from html import escape

import numpy as np

_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 28, 40
_COLORS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5")
_MOST_NAMED = 8  # lines; more are drawn in grey, named where the mouse points


def line_chart(
    title: str,
    axes: tuple[str, str],
    x: Sequence[float],
    lines: Sequence[tuple[str, Sequence[float]]],
    mean: Sequence[float] | None = None,
) -> str:
    """Draws lines over a square of 0..1.

    Args:
        title: of the chart.
        axes: names of x and y.
        x: `[n]`, 0..1.
        lines: names and values `[n]`, 0..1.
        mean: `[n]`, drawn thick in black.
    """
    named = len(lines) <= _MOST_NAMED
    parts = [_grid(), _names(title, axes)]
    for number, (name, y) in enumerate(lines):
        paint = _COLORS[number] if named else "#999"
        parts.append(_line(x, y, paint, 1.5 if named else 0.8, name))
    legend = [(name, _COLORS[i]) for i, (name, _) in enumerate(lines)] if named else []
    if mean is not None:
        parts.append(_line(x, mean, "currentColor", 2.5, "mean"))
        legend.append(("mean", "currentColor"))
    return _svg(_HEIGHT, "".join(parts), title) + _legend(legend)


def bar_chart(title: str, names: Sequence[str], values: Sequence[float], texts: Sequence[str]):
    """Draws horizontal bars with a text behind each; values are from 0 on."""
    longest, step = max([*values, 1e-9]), 30
    parts = [f'<text x="8" y="18" class="title">{escape(title)}</text>']
    for i, (name, value, text) in enumerate(zip(names, values, texts, strict=True)):
        y, width = _TOP + 6 + i * step, max(0.0, value) / longest * (_WIDTH - 250)
        parts.append(
            f'<text x="110" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="118" y="{y}" width="{width:.1f}" height="20" fill="{_COLORS[0]}"/>'
            f'<text x="{124 + width:.1f}" y="{y + 15}">{escape(text)}</text>'
        )
    return _svg(_TOP + 12 + len(names) * step, "".join(parts), title)


def _svg(height: int, content: str, title: str) -> str:
    label = escape(title, quote=True)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img" '
        f'aria-label="{label}">{content}</svg>'
    )


def _at(x, y) -> tuple[np.ndarray, np.ndarray]:
    across = _LEFT + np.asarray(x) * (_WIDTH - _LEFT - _RIGHT)
    return across, _HEIGHT - _BOTTOM - np.asarray(y) * (_HEIGHT - _TOP - _BOTTOM)


def _line(x, y, paint: str, width: float, name: str) -> str:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(*_at(x, y), strict=True))
    return (
        f'<polyline points="{points}" fill="none" stroke="{paint}" stroke-width="{width}">'
        f"<title>{escape(name)}</title></polyline>"
    )


def _grid() -> str:
    parts = []
    for tick in np.linspace(0, 1, 6):
        (x, y), (left, bottom) = _at(tick, tick), _at(0, 0)
        right, top = _at(1, 1)
        parts.append(
            f'<path class="grid" d="M{x:.1f} {top:.1f}V{bottom:.1f}'
            f'M{left:.1f} {y:.1f}H{right:.1f}"/>'
            f'<text x="{x:.1f}" y="{bottom + 15:.1f}" text-anchor="middle">{tick:.1f}</text>'
            f'<text x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:.1f}</text>'
        )
    return "".join(parts)


def _names(title: str, axes: tuple[str, str]) -> str:
    return (
        f'<text x="{_LEFT}" y="18" class="title">{escape(title)}</text>'
        f'<text x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{escape(axes[0])}</text>"
        f'<text transform="translate(12 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(axes[1])}</text>"
    )


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    items = "".join(
        f'<span><i style="background:{paint}"></i>{escape(name)}</span>' for name, paint in entries
    )
    return f'<div class="legend">{items}</div>'
