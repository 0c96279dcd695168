"""An image as a user gives it, and its pixels as a model takes them."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image

from maskrcnn_jax.images.channels import Kind, as_wanted, check_kind, fitted
from maskrcnn_jax.images.opening import image_pixels
from maskrcnn_jax.images.pixels import PixelFormat
from maskrcnn_jax.images.read import read_image

ImageLike = np.ndarray | jax.Array | Image.Image | str | bytes | Path


class SourceImage(NamedTuple):
    """What was given as an image, and how it is read.

    Attributes:
        given: as `Predictor` takes it.
        wanted: channels, depth and range that the model takes.
        max_pixels: files of larger images are refused.
    """

    given: ImageLike
    wanted: PixelFormat
    max_pixels: int

    def read(self) -> np.ndarray:
        """Returns the image as the model takes it, `[h, w, C]` uint8 or uint16.

        Raises:
            ValueError: an array is not an image, or a file is not readable as one.
            OSError: a file is not there.
        """
        if isinstance(self.given, str | Path):
            return read_image(self.given, self.max_pixels, wanted=self.wanted)
        if isinstance(self.given, bytes):
            what = "the image given as bytes"
            return read_image(what, self.max_pixels, content=self.given, wanted=self.wanted)
        if isinstance(self.given, Image.Image):
            return image_pixels(self.given, self.wanted)
        return _checked(self.given, self.wanted)

    @property
    def path(self) -> Path | None:
        """The file; None of an image that was given otherwise."""
        return Path(self.given) if isinstance(self.given, str | Path) else None


def _checked(image: np.ndarray | jax.Array, wanted: PixelFormat) -> np.ndarray:
    """Returns an array that is an image as wanted; raises ValueError where it is not."""
    channels = wanted.channels
    shape = getattr(image, "shape", None)
    if shape is None or len(shape) not in (2, 3) or 0 in shape:
        given = type(image).__name__ if shape is None else tuple(shape)
        raise ValueError(
            f"an image must be an array [height, width, {channels}], the path, http(s) address or "
            f"content (bytes) of a file, or an image of Pillow; given: {given}"
        )
    array = np.asarray(image)
    is_stretched = wanted.percentiles is not None and array.dtype in (np.uint8, np.uint16)
    if array.dtype != wanted.dtype and not is_stretched:
        name, most = np.dtype(wanted.dtype).name, np.iinfo(wanted.dtype).max
        raise ValueError(
            f"an image must be of {name}, 0..{most}{', RGB' * (channels == 3)}; given: "
            f"{array.dtype}. Images of 0..1 become so by ({most} * image).round().astype(np.{name})"
        )
    array = array[..., None] if array.ndim == 2 else array
    colours = {1: 1, 2: 1, 3: 3, 4: 3}.get(array.shape[2], 0)  # grey, RGB, with transparency
    depth = 8 * array.itemsize
    check_kind(Kind(array.shape[2], colours, depth), wanted, f"the array {tuple(shape)}")
    return as_wanted(lambda form: fitted(array, colours, form), depth, wanted)
