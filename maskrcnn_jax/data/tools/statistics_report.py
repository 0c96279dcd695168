"""The statistics of a dataset as text, and as a page of charts."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from maskrcnn_jax.data.tools.statistics import COUNT, LEVELS
from maskrcnn_jax.visualization.charts import bar_chart, page

_MOST_CLASSES = 40  # in text and charts, the most frequent ones
_SHARES = ("0.5", "0.7")  # thresholds of anchor recall


def as_text(stats: Mapping) -> str:
    """Returns what `statistics` gives as text for people."""
    return "\n".join(
        [
            *_objects(stats),
            "",
            *_classes(stats["classes"]),
            "",
            "boxes at the network's input, by the pyramid level that they are pooled from",
            _row(
                "level", "objects", "share", "side: 5 %", "50 %", "95 %", "h/w: 5 %", "50 %", "95 %"
            ),
            *(_row(name, *_level_cells(stats["levels"][name])) for name in LEVELS),
            "",
            "anchors: the best IoU that one has with each object",
            _row("objects", "number", "mean", *(f">= {share}" for share in _SHARES)),
            *(_row(name, *_recall_cells(group)) for name, group in stats["anchor_recall"].items()),
            "small, medium, large: below 32 x 32, below 96 x 96 pixels of the image, the others",
            "",
            *_pixels(stats["pixels"]),
            "",
            *_buckets(stats["buckets"]),
        ]
    )


def _row(*cells: object) -> str:
    first, *others = map(str, cells)
    return "  " + first.ljust(10) + "".join(cell.rjust(10) for cell in others)


def _objects(stats: Mapping) -> list[str]:
    objects, each = stats["objects"], stats["objects"]["per_image"]
    tiles = f" in {stats['samples']:,} tiles" if stats["samples"] != stats["images"] else ""
    lines = [
        f"{stats['dataset']}: {stats['images']:,} images{tiles}, {objects['all']:,} objects and "
        f"{objects['crowd']:,} crowd regions of {len(stats['classes'])} classes",
        f"objects per image: {each['mean']:.1f} on average, median {each['p50']:g}, "
        f"{each['p95']:g} or fewer in 95 %, {each['max']} at most; "
        f"{objects['images_without']:,} images without",
    ]
    cut = objects["cut_by_max_instances"]
    if cut["images"]:
        lines.append(
            f"config.data.max_instances cuts {cut['objects']:,} objects of {cut['images']:,} images"
        )
    return lines


def _classes(classes: Sequence[Mapping]) -> list[str]:
    """Returns the most frequent classes, and what there is to say of the others."""
    ordered = sorted(classes, key=lambda c: -c["objects"])
    lines = [_row("objects", "images") + "  class"]
    for c in ordered[:_MOST_CLASSES]:
        lines.append(_row(f"{c['objects']:,}", f"{c['images']:,}") + f"  {c['name']}")
    if len(ordered) > _MOST_CLASSES:
        rest = sum(c["objects"] for c in ordered[_MOST_CLASSES:])
        lines.append(f"  and {len(ordered) - _MOST_CLASSES} classes with {rest:,} objects")
    return lines


def _level_cells(level: Mapping) -> list[str]:
    cells = [f"{level['objects']:,}", f"{level['share']:.1%}"]
    if level["objects"]:
        cells += [f"{value:.0f}" for value in level["side"].values()]
        cells += [f"{value:.2f}" for value in level["aspect_ratio"].values()]
    return cells


def _recall_cells(group: Mapping) -> list[str]:
    cells = [f"{group['objects']:,}"]
    if group["objects"]:
        cells += [f"{group['mean_iou']:.2f}", *(f"{group[share]:.1%}" for share in _SHARES)]
    return cells


def _pixels(pixels: Mapping) -> list[str]:
    if not pixels["images"]:
        return ["pixels: no image could be read"]
    channels = len(pixels["mean"])
    end = ",)" if channels == 1 else ")"  # a tuple, as the configuration takes it
    mean, std = ("(" + ", ".join(f"{v:.2f}" for v in pixels[k]) + end for k in ("mean", "std"))
    names = "RGB" if channels == 3 else f"{channels} channels" if channels > 1 else "grey"
    scale = "" if pixels["bits"] == 8 else f", {pixels['bits']} bits"
    return [f"pixels of {pixels['images']:,} images, {names}{scale}: mean {mean}, std {std}"]


def _buckets(buckets: Mapping) -> list[str]:
    configured = buckets["configured"]
    lines = [
        f"config.data.buckets as configured: {_shown(configured['buckets'])}: "
        f"{configured['padding']:.1%} padding"
    ]
    if configured["shrunk"]:
        lines[0] += f"; {configured['shrunk']:,} images shrunk to fit"
    for choice in buckets["choices"]:
        lines.append(
            f"  {len(choice['buckets'])}: {choice['padding']:6.1%} padding with "
            f"{_shown(choice['buckets'])}"
        )
    lines.append(f"suggested: config.data.buckets = {_shown(buckets['suggested']['buckets'])}")
    return lines


def _shown(buckets: Sequence[Sequence[int]]) -> str:
    return str(tuple(tuple(bucket) for bucket in buckets))


def as_picture(stats: Mapping) -> np.ndarray:
    """Returns what `statistics` gives as a page of charts, `[h, w, 3]` uint8 RGB."""
    ordered = sorted(stats["classes"], key=lambda c: -c["objects"])[:_MOST_CLASSES]
    title = f"{stats['dataset']}: objects of each class"
    charts = [bar_chart(title, [c["name"] for c in ordered], {"": [c["objects"] for c in ordered]})]
    charts += [
        bar_chart(name, _bin_labels(found["edges"], name == COUNT), {"": found["counts"]})
        for name, found in stats["histograms"].items()
    ]
    groups = {name: group for name, group in stats["anchor_recall"].items() if group["objects"]}
    recall = {
        f"IoU >= {share}": [100 * group[share] for group in groups.values()] for share in _SHARES
    }
    charts.append(bar_chart("objects with an anchor, %", list(groups), recall, "{:.1f}"))
    choices = stats["buckets"]["choices"]
    numbers = [str(len(choice["buckets"])) for choice in choices] + ["configured"]
    paddings = [100 * c["padding"] for c in (*choices, stats["buckets"]["configured"])]
    charts.append(
        bar_chart(
            "padding by number of buckets, % of all pixels", numbers, {"": paddings}, "{:.1f}"
        )
    )
    return page(charts)


def _bin_labels(edges: Sequence[Any], whole: bool) -> list[str]:
    """Returns the names of bins, from a number to below the next; the last may be None: no end."""
    labels = []
    for low, high in pairwise(edges):
        if high is None:
            labels.append(f"{low:g} and more")
        elif whole:
            labels.append(f"{low:g}" if high == low + 1 else f"{low:g} to {high - 1:g}")
        else:
            labels.append(f"{round(low, 2):g} to {round(high, 2):g}")
    return labels
