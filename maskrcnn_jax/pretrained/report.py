"""What an import did, as text: arrays by module, what was reshaped and left, and the dialect."""

from collections.abc import Sequence

import numpy as np

from maskrcnn_jax.config_json import flat
from maskrcnn_jax.images.config import ImageConfig
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.pretrained.convert import Weights

_MOST_SHOWN = 5  # names in a list


def summary(weights: Weights, verbose: bool = False) -> str:
    """Returns what was read from a file, in some lines of text.

    Args:
        weights: as `convert.load` returns them.
        verbose: also list every array, with its names and shapes there and here.
    """
    lines = [f"{weights.file}: {weights.kind}, a {weights.part}; SHA-256 {weights.sha256}"]
    lines += _modules(weights)
    if verbose:
        lines += _arrays(weights)
    lines += _changes(weights)
    left = weights.left if verbose else _shortened(weights.left)
    lines += [f"left behind: {len(weights.left) or 'nothing'}" + _listed(left)]
    if weights.class_names:
        lines += [f"classes: {len(weights.class_names)}{_listed(_shortened(weights.class_names))}"]
    return "\n".join([*lines, *_dialect(weights), *(f"note: {note}" for note in weights.notes)])


def _shortened(names: Sequence[str]) -> list[str]:
    """Returns the first few names, and how many more there are."""
    more = len(names) - _MOST_SHOWN
    return [*names[:_MOST_SHOWN], *([f"and {more} more"] if more > 0 else [])]


def _listed(names: Sequence[str]) -> str:
    return f": {', '.join(names)}" if names else ""


def _modules(weights: Weights) -> list[str]:
    totals: dict[str, list[int]] = {}
    for _, _, path, shape in weights.mapped:
        total = totals.setdefault(path.split(".")[1], [0, 0])
        total[0] += 1
        total[1] += int(np.prod(shape))
    totals["total"] = [sum(column) for column in zip(*totals.values(), strict=True)]
    rows = [f"  {name:<12}{arrays:>8}{numbers:>14,}" for name, (arrays, numbers) in totals.items()]
    return [f"  {'mapped':<12}{'arrays':>8}{'numbers':>14}", *rows]


def _changes(weights: Weights) -> list[str]:
    merged = [names for names, _, _, _ in weights.mapped if len(names) > 1]
    reshaped = sum(
        len(names) == 1 and shapes[0] != shape for names, shapes, _, shape in weights.mapped
    )
    count = f"{len(merged)} arrays, made of {sum(map(len, merged))}" if merged else "none"
    return [
        f"reshaped: {reshaped} arrays, whose shape is another here; --verbose lists them",
        f"merged: {count}",
    ]


def _arrays(weights: Weights) -> list[str]:
    lines = []
    for names, shapes, path, shape in weights.mapped:
        theirs = " + ".join(f"{name} {list(one)}" for name, one in zip(names, shapes, strict=True))
        lines.append(f"  {theirs} -> {path} {list(shape)}")
    return lines


def _dialect(weights: Weights) -> list[str]:
    """Lists the keys of the configuration that are not as by default."""
    defaults = flat({"model": ModelConfig(), "data": ImageConfig()})
    values = {f"model.{key}": value for key, value in {**weights.model, **weights.settings}.items()}
    values |= {f"data.{key}": value for key, value in weights.data.items()}
    changed = {key: value for key, value in values.items() if value != defaults[key]}
    width = max(map(len, changed), default=0)
    rows = [
        f"  {key:<{width}}  {value}  (default {defaults[key]})" for key, value in changed.items()
    ]
    return ["configuration that differs from the default:", *(rows or ["  nothing"])]
