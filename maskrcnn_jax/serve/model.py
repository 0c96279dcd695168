"""A detector as the server calls it: from a file's bytes to an image, from images to objects."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskrcnn_jax.images.pixels import pixel_format
from maskrcnn_jax.images.read import read_image
from maskrcnn_jax.inference.predictor import Predictor
from maskrcnn_jax.inference.result import Result


class Model:
    """A predictor of single images and one of batches, with the same weights.

    A single image is not made to wait for a batch's worth of arithmetic, and no other number of
    images is ever compiled.

    Attributes:
        batch_size: images that are detected together, at most.
        class_names: K names.
    """

    def __init__(
        self,
        variables: Mapping[str, Any],
        metadata: Mapping[str, Any],
        batch_size: int,
        max_pixels: int,
    ):
        """Takes variables and metadata as `load_for_inference` returns them.

        Raises:
            ValueError: the batch size is not positive.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.batch_size = batch_size
        self._max_pixels = max_pixels
        self._single = Predictor(variables, metadata)
        self._several = (
            Predictor(variables, metadata, batch_size) if batch_size > 1 else self._single
        )
        self.class_names = self._single.class_names

    def read(self, name: str, content: bytes) -> np.ndarray:
        """Returns an image file as the network takes images.

        Args:
            name: of the file, for messages.
            content: of the file.

        Raises:
            ValueError: it is not a readable image, or too large.
        """
        wanted = pixel_format(self._single.image_config)
        return read_image(name, self._max_pixels, content=content, wanted=wanted)

    def detect(self, images: Sequence[np.ndarray]) -> list[Result]:
        """Returns what is found in each of 1 to `batch_size` images."""
        predictor = self._single if len(images) == 1 else self._several
        found = predictor(list(images))
        assert isinstance(found, list)
        return found

    def compile(self) -> None:
        """Detects in an empty image of every bucket, so that no request waits for a compiler."""
        data = self._single.image_config
        wanted = pixel_format(data)
        for bucket in data.buckets:
            empty: np.ndarray = np.zeros((*bucket, wanted.channels), wanted.dtype)
            for number in {1, self.batch_size}:
                self.detect([empty] * number)
