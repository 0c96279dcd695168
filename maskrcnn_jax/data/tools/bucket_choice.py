"""Which padded sizes would suit the images of a dataset, and how much of them would be padding."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from maskrcnn_jax.data.config import DataConfig
from maskrcnn_jax.images.sizes import (
    Size,
    choose_bucket,
    largest_size_inside,
    resized_size,
    short_side_size,
)

_STRIDE = 32  # sides of buckets are multiples, the coarsest stride of the backbone
_MOST = 6  # buckets; each is one compilation of the training step
_WORTH = 0.02  # fraction of all pixels that one bucket more must save


def padding(sizes: Mapping[Size, int], data: DataConfig) -> dict[str, object]:
    """Returns how the configured buckets suit images.

    Args:
        sizes: how many images there are, by original height and width.
        data: the configuration's `data` section.

    Returns:
        buckets; images: how many go to each; padding: the fraction of all pixels that is none of an
        image; shrunk: images that would be larger by `data.short_side`, but fit no bucket so.
    """
    resized: Counter[tuple[int, int]] = Counter()
    shrunk = 0
    for size, count in sizes.items():
        resized[resized_size(*size, data)] += count
        shrunk += count * (_wanted_size(size, data) != resized_size(*size, data))
    result = _of_buckets(data.buckets, resized)
    return result | {"shrunk": shrunk if data.resize == "short_side" else 0}


def choices(sizes: Mapping[Size, int], data: DataConfig) -> list[dict[str, object]]:
    """Returns, for each number of buckets from 1 on, ones with little padding.

    Sizes are rounded up to multiples of 32; then, again and again, the two groups whose common
    bucket costs the fewest pixels are put together; last, sides are shortened while that saves
    pixels. That is greedy: near the best choice, not always it.

    Args:
        sizes: how many images there are, by original height and width.
        data: the configuration's `data` section; its buckets only say how large "square" images
            may become.

    Returns:
        buckets, images and padding of each choice, as `padding` has them.
    """
    wanted: Counter[tuple[int, int]] = Counter()
    for size, count in sizes.items():
        wanted[_wanted_size(size, data)] += count
    rounded: Counter[tuple[int, int]] = Counter()
    for (height, width), count in wanted.items():
        rounded[-(-height // _STRIDE) * _STRIDE, -(-width // _STRIDE) * _STRIDE] += count
    groups, counts = np.array(list(rounded)), np.array(list(rounded.values()))
    found = {}
    while True:
        if len(groups) <= _MOST:
            buckets = _shortened({tuple(group) for group in groups.tolist()}, rounded)
            found[len(buckets)] = _of_buckets(buckets, wanted)
        if len(groups) == 1:
            return [found[number] for number in sorted(found)]
        groups, counts = _merged(groups, counts)


def suggested(found: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Returns the choice after which no further bucket is worth its compilation.

    Of few images each must save more: as much as one image is.
    """
    worth = max(_WORTH, 1 / sum(found[0]["images"]))
    return min(found, key=lambda choice: choice["padding"] + worth * len(choice["buckets"]))


def _wanted_size(size: Size, data: DataConfig) -> Size:
    """Returns the size that an image would have if buckets did not matter."""
    if data.resize == "short_side":
        return short_side_size(*size, data.short_side, data.long_side)
    longest = max(side for bucket in data.buckets for side in bucket)
    return largest_size_inside(*size, (longest, longest))


def _merged(groups: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Puts the two groups together that cost least; groups [n, 2], counts [n]."""
    common = np.maximum(groups[:, None], groups)
    area = groups.prod(1) * counts
    cost = common.prod(2) * (counts[:, None] + counts) - area[:, None] - area
    cost = np.where(np.eye(len(groups), dtype=bool), np.iinfo(np.int64).max, cost)
    i, j = np.unravel_index(np.argmin(cost), cost.shape)
    rest = np.delete(np.arange(len(groups)), [i, j])
    groups = np.concatenate([groups[rest], common[i, j][None]])
    return groups, np.append(counts[rest], counts[i] + counts[j])


def _shortened(buckets: Collection[Size], sizes: Mapping[Size, int]) -> list[Size]:
    """Returns the buckets that images of these sizes use, sides shortened while that saves pixels.

    One side of one bucket at a time: its images may go to another then.
    """
    best, pixels = sorted(buckets), np.inf
    trials = [best]
    while trials:
        costs = [_pixels(trial, sizes) for trial in trials]
        trials, (cost, trial) = [], min(zip(costs, trials, strict=True))
        if cost < pixels:
            best, pixels = trial, cost
            for i, (height, width) in enumerate(best):
                for smaller in ((height - _STRIDE, width), (height, width - _STRIDE)):
                    trials.append(sorted([*best[:i], smaller, *best[i + 1 :]]))
    used = {min(_fitting(best, size), key=np.prod) for size in sizes}
    return sorted(used)


def _pixels(buckets: Sequence[Size], sizes: Mapping[Size, int]) -> float:
    """Returns the pixels of all padded images; infinity where one fits no bucket."""
    areas = ([h * w for h, w in _fitting(buckets, size)] for size in sizes)
    least = (min(found, default=np.inf) for found in areas)
    return sum(count * area for count, area in zip(sizes.values(), least, strict=True))


def _fitting(buckets: Sequence[Size], size: Size) -> list[Size]:
    return [bucket for bucket in buckets if size[0] <= bucket[0] and size[1] <= bucket[1]]


def _of_buckets(buckets: Sequence[Size], resized: Mapping[Size, int]) -> dict[str, object]:
    """Returns buckets, images and padding of images of sizes that fit."""
    images = [0] * len(buckets)
    pixels = 0
    for size, count in resized.items():
        images[choose_bucket(*size, tuple(buckets))] += count
        pixels += count * size[0] * size[1]
    padded = sum(n * h * w for n, (h, w) in zip(images, buckets, strict=True))
    return {
        "buckets": [list(bucket) for bucket in buckets],
        "images": images,
        "padding": 1 - pixels / padded,
    }
