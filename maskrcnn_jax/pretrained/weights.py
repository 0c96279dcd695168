"""Weights that are there already, whoever trained them, and what is known about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maskrcnn_jax.images.pixels import RGB8, PixelFormat


@dataclass(frozen=True)
class Weights:
    """Weights of a detector or a backbone, in our names, with the dialect they were trained in.

    Attributes:
        kind: "maskrcnn_jax", or a name in `sources.SOURCES`.
        part: "detector" or "backbone".
        file: where they were read from.
        sha256: of the file, or of our own arrays.
        variables: {"params": ..., "batch_stats": ...} of float32 numpy arrays; of a backbone only
            the part under "backbone".
        model: keys of `config.model`, flattened, that belong to the weights.
        settings: further keys of `config.model`: how the published model is run.
        data: keys of `config.data` likewise.
        class_names: K names; none for a backbone.
        category_ids: K ids of a data set's categories; none where they are not known.
        notes: sentences on what the file cannot tell and the user may know.
        pixels: channels and depth of the images that they were trained on.
        mapped, left: see `mapping.Imported`; of files of other projects.
    """

    kind: str
    part: str
    file: str
    sha256: str
    variables: Mapping[str, Any]
    model: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    category_ids: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    pixels: PixelFormat = RGB8
    mapped: Sequence[tuple[tuple[str, ...], tuple[tuple[int, ...], ...], str, tuple[int, ...]]] = ()
    left: Sequence[str] = ()
