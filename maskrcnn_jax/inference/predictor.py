"""A trained model for use: images in, objects out.

What only some calls need (tiles, test-time augmentation, downloads) is imported by these.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import jax
import numpy as np
from PIL import Image

from maskrcnn_jax.checkpoints.saved_config import detector_config
from maskrcnn_jax.config_json import copied
from maskrcnn_jax.images.pixels import pixel_format
from maskrcnn_jax.images.sizes import prepare_image
from maskrcnn_jax.inference.forward import prediction
from maskrcnn_jax.inference.result import Result, to_result
from maskrcnn_jax.inference.source_image import ImageLike, SourceImage
from maskrcnn_jax.models.mask_rcnn import MaskRCNN

if TYPE_CHECKING:
    from maskrcnn_jax.inference.test_time import Views


class Predictor:
    """Detects objects in images of any size; compiled once for each bucket of sizes it meets.

    Attributes:
        model_config: `config.model` of the training run.
        image_config: those keys of its `config.data` that say how images enter the network.
        class_names: K names; class k of a result is `class_names[k - 1]`.
        category_ids: K ids that the data set gives the classes.
    """

    def __init__(
        self,
        variables: Mapping[str, Any],
        metadata: Mapping[str, Any],
        batch_size: int = 1,
        max_pixels: int | None = None,
    ):
        """Takes variables and metadata as `load_for_inference` returns them."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.model_config, self.image_config = detector_config(metadata)
        self.class_names = tuple(metadata["class_names"])
        self.category_ids = tuple(metadata["category_ids"])
        self._variables = variables
        self._batch_size = batch_size
        self._max_pixels = self.image_config.max_pixels if max_pixels is None else max_pixels
        self._model = MaskRCNN(copied(self.model_config), len(self.class_names))
        self._steps: dict[Views | None, Callable[..., Any]] = {}

    def __call__(
        self,
        images: ImageLike | Sequence[ImageLike],
        min_score: float = 0.0,
        tile: int | None = None,
        overlap: float = 0.25,
        tta: str | Sequence[str | float] | None = None,
    ) -> Result | list[Result]:
        """Detects the objects of one image or of several.

        Args:
            images: an image or several. An image is an array of numpy or jax, `[h, w, 3]` uint8
                RGB, or as `config.data.channels` and `depth` say (uint16; with
                `config.data.normalize` = "percentile" either); the path, http(s) address or content
                (bytes) of an image file; or an image of Pillow, taken as `numpy.asarray` shows it
                (its EXIF is not followed: `PIL.ImageOps.exif_transpose` does that). Where 1 or 3
                channels are wanted, grey `[h, w]` or `[h, w, 1]`, RGB and RGBA become each other as
                in files. Several are a list of any of these, or an array `[B, h, w, C]`.
            min_score: objects with a lower score are left out, besides those below the model's
                own `detections.score_threshold`.
            tile: side in pixels of the square tiles that each image is cut into, every one of
                which the network gets as an image; None: images are not cut. The best is the size
                of the training images, where objects have the size that the network knows.
            overlap: of neighbouring tiles, as a fraction of their side; an object that is no
                longer is whole in one of them.
            tta: test-time augmentation: "flip", scales besides 1 ("0.8,1.25"), or both
                ("flip,0.8,1.25"), see `inference.test_time`; None: each image is seen once.

        Returns:
            A result, or a list of them in the order of the images.

        Raises:
            ValueError: an array is not an image, a file is not readable as one, or tiles or views
                cannot be so.
            OSError: a file is not there, or an address gives none.
        """
        is_one = isinstance(images, str | bytes | Path | Image.Image)
        if is_one or getattr(images, "ndim", 4) < 4:
            one = cast(ImageLike, images)
            return next(self.stream([one], min_score, tile, overlap, tta))[1]
        found = dict(self.stream(cast(Sequence[ImageLike], images), min_score, tile, overlap, tta))
        return [found[index] for index in range(len(found))]

    def stream(
        self,
        images: Iterable[ImageLike],
        min_score: float = 0.0,
        tile: int | None = None,
        overlap: float = 0.25,
        tta: str | Sequence[str | float] | None = None,
    ) -> Iterator[tuple[int, Result]]:
        """Detects the objects of images of any number, while later ones are already on their way.

        Args:
            images: as for a call; they may have no end, as the frames of a camera.
            min_score: as for a call.
            tile: as for a call.
            overlap: as for a call.
            tta: as for a call.

        Yields:
            Number of the image, from 0, and its result. Images that enter the network at one size
            come in their order; others may come later, when there are enough of them for a batch.

        Raises:
            ValueError, OSError: as for a call.
        """
        sources: dict[int, SourceImage] = {}
        views = _views(tta)

        def read() -> Iterator[np.ndarray]:
            for index, image in enumerate(images):
                sources[index] = self._source(image)
                yield sources[index].read()

        if tile is None:
            found = self._detect(read(), min_score, views)
        else:
            shared = shared_pixels(tile, overlap)
            found = enumerate(
                self._tiled(image, min_score, tile, shared, views) for image in read()
            )
        for index, result in found:
            yield index, replace(result, source=sources.pop(index))

    def _detect(
        self, images: Iterable[np.ndarray], min_score: float, views: "Views | None"
    ) -> Iterator[tuple[int, Result]]:
        """Detects in images that were read, `[h, w, C]` each; yields as `stream` does."""
        if views not in self._steps:
            self._steps[views] = jax.jit(prediction(self._model, views=views))
        step = self._steps[views]
        batches = _batches(self._prepare(images, views), self._batch_size)
        for batch, found in _one_ahead(lambda b: step(self._variables, *_stack(b)), batches):
            detections = jax.device_get(found)
            for slot, (index, _, image_size, original_size) in enumerate(batch):
                if index is not None:
                    size = image_size if views is None else image_size[0]
                    yield index, self._result(detections, slot, size, original_size, min_score)

    def _tiled(
        self,
        image: np.ndarray,
        min_score: float,
        side: int,
        shared: int,
        views: "Views | None",
    ) -> Result:
        """Detects in the tiles of an image; it was stretched, where it is, as a whole."""
        from maskrcnn_jax.images.tiles import tile_windows
        from maskrcnn_jax.inference.tiles import merge_tiles

        height, width = image.shape[:2]
        windows = tile_windows(height, width, side, shared)
        tiles = (image[y1:y2, x1:x2] for x1, y1, x2, y2 in windows)
        found = dict(self._detect(tiles, min_score, views))
        return merge_tiles([found[i] for i in range(len(found))], windows, height, width)

    def read(self, image: ImageLike) -> np.ndarray:
        """Returns an image as the model takes it, `[h, w, C]` uint8 or uint16.

        Args:
            image: as for a call.

        Raises:
            ValueError, OSError: as for a call.
        """
        return self._source(image).read()

    def _source(self, image: ImageLike) -> SourceImage:
        if isinstance(image, str) and image.startswith(("http://", "https://")):
            from maskrcnn_jax.images.download import download

            image = download(image)
        return SourceImage(image, pixel_format(self.image_config), self._max_pixels)

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
        source = self._source(image)
        _, padded, image_size, original_size = next(self._prepare([source.read()]))
        arguments = padded[None], image_size[None]
        detections, stages = jax.device_get(self._predict_stages(self._variables, *arguments))
        result = self._result(detections, 0, image_size, original_size, min_score)
        result = replace(result, source=source)
        given = {"input": arguments[0], "input_size": arguments[1], "detections": detections}
        return result, {**stages, **given}

    def _result(self, detections, slot, image_size, original_size, min_score) -> Result:
        result = to_result(
            detections,
            slot,
            image_size,
            original_size,
            self.class_names,
            min_score,
            self.model_config.detections.mask_paste,
            self.model_config.keypoints.keypoint_set(),
        )
        return replace(result, category_ids=self.category_ids)

    @cached_property
    def _predict_stages(self):
        return jax.jit(
            lambda variables, image, image_size: self._model.apply(
                variables, image, image_size, method="predict"
            )
        )

    def _prepare(
        self, images: Iterable[np.ndarray], views: "Views | None" = None
    ) -> Iterator[tuple]:
        """Yields `(index, input [H, W, C], its valid size [2], original size [2])`.

        With views, input and size are tuples with one for each scale.
        """
        for index, image in enumerate(images):
            given = prepare_image(image, self.image_config)
            if views is not None:
                given = _every_scale(image, given, views)
            yield index, *given, np.array(image.shape[:2])


def shared_pixels(tile: int, overlap: float) -> int:
    """Returns how many pixels neighbouring tiles share.

    Args:
        tile: their side, pixels.
        overlap: the fraction of it.

    Raises:
        ValueError: tiles cannot be so.
    """
    if tile < 2 or not 0 <= overlap < 1:
        raise ValueError(
            f"tile is {tile} and overlap {overlap}; expected a side of at least 2 pixels, and a "
            "fraction of it from 0 to below 1"
        )
    return min(round(overlap * tile), tile - 1)


def _views(tta: str | Sequence[str | float] | None) -> "Views | None":
    if not tta:
        return None
    from maskrcnn_jax.inference.test_time import parse_views

    return parse_views(tta)


def _every_scale(image: np.ndarray, given: tuple, views: "Views") -> tuple:
    """Returns the inputs of all scales and their valid sizes, those of the usual one first."""
    from maskrcnn_jax.inference.test_time import scaled_inputs

    padded, size = given
    others = scaled_inputs(image, size, padded.shape[:2], views.scales)
    return tuple(zip(given, *others, strict=True))


def _batches(prepared: Iterable[tuple], batch_size: int) -> Iterator[list[tuple]]:
    """Groups prepared images by the shape of their input; the last of a shape may be fewer."""
    waiting: dict[tuple, list] = {}
    for item in prepared:
        group = waiting.setdefault(jax.tree.map(np.shape, item[1]), [])
        group.append(item)
        if len(group) == batch_size:
            yield group.copy()
            group.clear()
    for group in waiting.values():
        if group:  # filled up, so that no other batch size is ever compiled
            yield group + [(None, *group[0][1:])] * (batch_size - len(group))


def _stack(batch: list[tuple]) -> tuple[Any, Any]:
    _, inputs, sizes, _ = zip(*batch, strict=True)
    return tuple(jax.tree.map(lambda *arrays: np.stack(arrays), *each) for each in (inputs, sizes))


def _one_ahead(run: Callable, batches: Iterable[list]) -> Iterator[tuple[list, Any]]:
    """Yields each batch and what `run` made of it, while the device already works on the next."""
    waiting = []
    for batch in batches:
        waiting.append((batch, run(batch)))
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting
