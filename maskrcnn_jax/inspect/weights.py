"""Histograms of each layer's weights, and which of them look dead or exploding."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from maskrcnn_jax.inspect.page import View
from maskrcnn_jax.visualization.charts import histogram_chart, page

_DEAD = 1e-6  # a channel whose weights all are smaller does nothing
# Kernels begin at a standard deviation of sqrt(2 / fan-in) or less (He et al. 2015), and stay
# within a few times that; scales and biases stay below ten.
_TOO_WIDE = 10.0
_TOO_LARGE = 100.0


class Layer(NamedTuple):
    """One array of a model's parameters.

    Attributes:
        name: its path, with slashes.
        values: the array.
        fault: what looks wrong about it, or "".
    """

    name: str
    values: np.ndarray
    fault: str


def layers(params: Mapping[str, Any]) -> list[Layer]:
    """Returns every array of a tree of parameters, with what looks wrong about it."""
    found = []
    for path, values in flatten_dict(params).items():
        array = np.asarray(values)
        found.append(Layer("/".join(path), array, fault(path[-1], array)))
    return found


def fault(kind: str, values: np.ndarray) -> str:
    """Returns what looks wrong about an array, or "".

    Args:
        kind: kernel, scale, bias or another name of a parameter.
        values: floats; the last axis of a kernel and of a scale is that of its channels.
    """
    values = values.astype(np.float32)
    bad = np.count_nonzero(~np.isfinite(values))
    if bad:
        return f"exploded: {bad:,} of {values.size:,} values are not finite"
    if kind == "kernel":
        fan_in = values.size // values.shape[-1]
        ratio = float(values.std()) / (2 / fan_in) ** 0.5
        if ratio > _TOO_WIDE:
            return f"exploding: its deviation is {ratio:.0f} times that of a new layer"
    elif np.abs(values).max() > _TOO_LARGE:
        return f"exploding: a value of {np.abs(values).max():.3g}"
    if kind in ("kernel", "scale"):
        channels = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
        dead = np.count_nonzero(channels <= _DEAD)
        if dead:
            return f"dead: {dead:,} of {len(channels):,} channels are zero"
    return ""


def weight_views(found: Sequence[Layer]) -> Iterator[View]:
    """Yields a page of histograms for each part of the detector.

    Args:
        found: of `layers`.
    """
    for part in dict.fromkeys(layer.name.split("/")[0] for layer in found):
        chosen = [layer for layer in found if layer.name.split("/")[0] == part]
        faults = [f"{layer.name}: {layer.fault}" for layer in chosen if layer.fault]
        total = sum(layer.values.size for layer in chosen)
        legend = f"{total:,} parameters in {len(chosen)} arrays. "
        legend += "\n".join(faults) if faults else "None looks dead or exploding."
        yield View(part, legend, page([_chart(layer) for layer in chosen], columns=4))


def _chart(layer: Layer) -> np.ndarray:
    values = layer.values.astype(np.float32)
    short = layer.name.partition("/")[2] or layer.name
    words = f"{'x'.join(map(str, values.shape))}  mean {values.mean():.2g}  std {values.std():.2g}"
    chart = histogram_chart(short[-44:], values, words)
    if layer.fault:
        chart[:3] = chart[-3:] = chart[:, :3] = chart[:, -3:] = (230, 30, 30)
    return chart
