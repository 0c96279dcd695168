"""A model that finds one object in every image, at once, or when a test lets it."""

import threading

import numpy as np

from maskrcnn_jax.images.paste import MaskCrop
from maskrcnn_jax.images.read import read_image
from maskrcnn_jax.inference.result import Result


class Model:
    """Finds a rectangle of the class that the brightness of the image's first pixel says.

    Attributes:
        batches: the number of images of each call.
        free: a call waits until it is set.
    """

    class_names = ("cat", "dog")
    category_ids = (17, 18)

    def __init__(self, batch_size: int = 1, max_pixels: int = 10_000):
        self.batch_size, self._max_pixels = batch_size, max_pixels
        self.batches: list[int] = []
        self.free = threading.Event()
        self.free.set()

    def read(self, name: str, content: bytes) -> np.ndarray:
        return read_image(name, self._max_pixels, content=content)

    def detect(self, images) -> list[Result]:
        self.batches.append(len(images))
        assert self.free.wait(20)
        return [self._result(image) for image in images]

    def _result(self, image: np.ndarray) -> Result:
        height, width = image.shape[:2]
        label = 1 + int(image[0, 0, 0] > 127)
        return Result(
            boxes=np.array([[1, 2, 5, 7]] * 2, np.float32),
            scores=np.array([0.9, 0.3], np.float32),
            classes=np.array([label, 1], np.int32),
            class_names=(self.class_names[label - 1], "cat"),
            crops=(MaskCrop(np.ones((5, 4), bool), 2, 1),) * 2,
            height=height,
            width=width,
            category_ids=self.category_ids,
        )
