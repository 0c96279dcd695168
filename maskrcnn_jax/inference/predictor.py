"""A trained model for use: images in, objects out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import FrozenConfigDict

from maskrcnn_jax.checkpoints.load import load_for_inference
from maskrcnn_jax.images.pixels import PixelFormat, pixel_format
from maskrcnn_jax.images.read import read_image
from maskrcnn_jax.images.sizes import prepare_image
from maskrcnn_jax.inference.predict_step import make_predict_step
from maskrcnn_jax.inference.result import Result, to_result
from maskrcnn_jax.models.build import make_model

ImageLike = np.ndarray | str | Path


def load(workdir: str | Path, checkpoint: str | int = "last", batch_size: int = 1) -> "Predictor":
    """Loads a trained model.

    Args:
        workdir: the folder of its training run.
        checkpoint: `last`, `best` or the number of a step.
        batch_size: images that the network gets at a time.

    Returns:
        The predictor.

    Raises:
        FileNotFoundError: there is no such checkpoint.
    """
    return Predictor(*load_for_inference(workdir, checkpoint), batch_size=batch_size)


class Predictor:
    """Detects objects in images of any size; compiled once for each bucket of sizes it meets.

    Attributes:
        config: the configuration of the training run, frozen.
        class_names: K names; class k of a result is `class_names[k - 1]`.
        category_ids: K ids that the data set gives the classes.
    """

    def __init__(
        self, variables: Mapping[str, Any], metadata: Mapping[str, Any], batch_size: int = 1
    ):
        """Takes variables and metadata as `load_for_inference` returns them."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.config = FrozenConfigDict(metadata["config"])
        self.class_names = tuple(metadata["class_names"])
        self.category_ids = tuple(metadata["category_ids"])
        self._variables = variables
        self._batch_size = batch_size
        self._model = make_model(self.config.model, len(self.class_names))
        self._predict = make_predict_step(self._model)

    def __call__(
        self, images: ImageLike | Sequence[ImageLike], min_score: float = 0.0
    ) -> Result | list[Result]:
        """Detects the objects of one image or of several.

        Args:
            images: an image, `[h, w, 3]` uint8 RGB, or as `config.data.channels` and `depth` say
                (uint16), or the path of an image file; or a list.
            min_score: objects with a lower score are left out, besides those below the model's
                own `detections.score_threshold`.

        Returns:
            A result, or a list of them in the order of the images.

        Raises:
            ValueError: an array is not an image, or a file is not readable as one.
            OSError: a file is not there.
        """
        if isinstance(images, np.ndarray | str | Path):
            return self([images], min_score)[0]
        results = {}
        for batch in _batches(self._prepare(images), self._batch_size):
            detections = jax.device_get(self._predict(self._variables, *_stack(batch)))
            for slot, (index, _, image_size, original_size) in enumerate(batch[: _count(batch)]):
                results[index] = self._result(
                    detections, slot, image_size, original_size, min_score
                )
        return [results[index] for index in sorted(results)]

    def read(self, image: ImageLike) -> np.ndarray:
        """Returns an image as the model takes it, `[h, w, C]` uint8 or uint16.

        Args:
            image: as for a call.

        Raises:
            ValueError, OSError: as for a call.
        """
        wanted = pixel_format(self.config.data)
        if isinstance(image, str | Path):
            return read_image(image, self.config.data.max_pixels, wanted=wanted)
        return _checked(image, wanted)

    def stages(self, image: ImageLike, min_score: float = 0.0) -> tuple[Result, dict[str, Any]]:
        """Detects the objects of one image and shows how the network came to them.

        Args:
            image: as for a call.
            min_score: as for a call.

        Returns:
            The result, and every stage of `MaskRCNN.predict` as a numpy array with a leading axis
            of 1; besides them `input` `[1, H, W, C]` and `input_size` `[1, 2]` float32, what the
            network was given, and `detections`, in its pixels.
        """
        _, padded, image_size, original_size = next(self._prepare([image]))
        arguments = padded[None], image_size[None]
        detections, stages = jax.device_get(self._predict_stages(self._variables, *arguments))
        result = self._result(detections, 0, image_size, original_size, min_score)
        given = {"input": arguments[0], "input_size": arguments[1], "detections": detections}
        return result, {**stages, **given}

    def _result(self, detections, slot, image_size, original_size, min_score) -> Result:
        return to_result(
            detections,
            slot,
            image_size,
            original_size,
            self.class_names,
            min_score,
            self.config.model.detections.mask_paste,
        )

    @cached_property
    def _predict_stages(self):
        return jax.jit(
            lambda variables, image, image_size: self._model.apply(
                variables, image, image_size, method="predict"
            )
        )

    def _prepare(self, images: Iterable[ImageLike]) -> Iterator[tuple]:
        """Yields `(index, input [H, W, C], its valid size [2], original size [2])`."""
        for index, image in enumerate(images):
            image = self.read(image)
            yield index, *prepare_image(image, self.config.data), np.array(image.shape[:2])


def _checked(image: np.ndarray, wanted: PixelFormat) -> np.ndarray:
    """Returns an array that is an image as wanted; raises ValueError where it is not."""
    channels = wanted.channels
    if not (isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == channels):
        given = getattr(image, "shape", type(image).__name__)
        raise ValueError(
            f"an image must be an array [height, width, {channels}] or a path; given: {given}"
        )
    if image.dtype != wanted.dtype:
        name, most = np.dtype(wanted.dtype).name, np.iinfo(wanted.dtype).max
        raise ValueError(
            f"an image must be of {name}, 0..{most}{', RGB' * (channels == 3)}; given: "
            f"{image.dtype}. Images of 0..1 become so by ({most} * image).round().astype(np.{name})"
        )
    return image


def _batches(prepared: Iterable[tuple], batch_size: int) -> Iterator[list[tuple]]:
    """Groups prepared images by the shape of their input; the last of a shape may be fewer."""
    waiting: dict[tuple, list] = {}
    for item in prepared:
        group = waiting.setdefault(item[1].shape, [])
        group.append(item)
        if len(group) == batch_size:
            yield group.copy()
            group.clear()
    for group in waiting.values():
        if group:  # filled up, so that no other batch size is ever compiled
            empty = None, np.zeros_like(group[0][1]), np.float32(group[0][1].shape[:2]), None
            yield group + [empty] * (batch_size - len(group))


def _stack(batch: list[tuple]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([item[1] for item in batch]), np.stack([item[2] for item in batch])


def _count(batch: list[tuple]) -> int:
    return sum(item[0] is not None for item in batch)
