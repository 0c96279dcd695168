"""What a user gets for one image: detections in the pixels of the original image."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from maskrcnn_jax.images.paste import MaskCrop, full_mask, paste_crop
from maskrcnn_jax.models.detections import Detections


@dataclass(frozen=True)
class Result:
    """The detections of one image, best first.

    Attributes:
        boxes: `[n, 4]` float32, xyxy, pixels of the original image, inside it.
        scores: `[n]` float32, 0..1.
        classes: `[n]` int32, 1..K.
        class_names: n names.
        crops: n masks, each only where its box is: a hundred masks of a photograph of 12
            megapixels would take 1.2 GB.
        height: of the original image, pixels.
        width: of the original image, pixels.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...]
    crops: tuple[MaskCrop, ...] = field(repr=False)
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.scores)

    def of_at_least(self, score: float) -> "Result":
        """Returns the result without the detections of lower scores."""
        chosen = np.flatnonzero(self.scores >= score)
        return replace(
            self,
            boxes=self.boxes[chosen],
            scores=self.scores[chosen],
            classes=self.classes[chosen],
            class_names=tuple(self.class_names[i] for i in chosen),
            crops=tuple(self.crops[i] for i in chosen),
        )

    @cached_property
    def masks(self) -> np.ndarray:
        """The masks at full size, `[n, height, width]` bool; made when first asked for."""
        masks = np.zeros((len(self), self.height, self.width), bool)
        for mask, crop in zip(masks, self.crops, strict=True):
            mask[:] = full_mask(crop, self.height, self.width)
        return masks


def to_result(
    detections: Detections,
    index: int,
    image_size: np.ndarray,
    original_size: np.ndarray,
    class_names: Sequence[str],
    min_score: float = 0.0,
    mask_paste: str = "exact",
) -> Result:
    """Takes one image's detections out of a batch and back to the original image.

    Boxes are divided by the true ratio of the sizes, which rounding makes differ a little between
    the axes, and from the ratio that was asked for. As torchvision 0.28 does.

    Args:
        detections: of a batch, in host memory.
        index: of the image in the batch.
        image_size: `[2]`, height and width of the image within the network's input, pixels.
        original_size: `[2]`, height and width of the original image, pixels.
        class_names: K names; class k has name k - 1.
        min_score: detections with a lower score are dropped.
        mask_paste: `config.model.detections.mask_paste`, see `inference.paste`.

    Returns:
        The result, in the order of the detections.
    """
    height, width = (int(side) for side in original_size)
    chosen = np.asarray(detections.valid[index]) & (detections.scores[index] >= min_score)
    ratio = np.array([height, width], np.float32) / np.asarray(image_size, np.float32)
    boxes = np.asarray(detections.boxes[index])[chosen] * ratio[[1, 0, 1, 0]]
    boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    classes = np.asarray(detections.classes[index])[chosen]
    grids = np.asarray(detections.masks[index])[chosen]
    return Result(
        boxes=boxes.astype(np.float32),
        scores=np.asarray(detections.scores[index])[chosen].astype(np.float32),
        classes=classes.astype(np.int32),
        class_names=tuple(class_names[k - 1] for k in classes),
        crops=tuple(
            paste_crop(grid, box, height, width, rule=mask_paste)
            for grid, box in zip(grids, boxes, strict=True)
        ),
        height=height,
        width=width,
    )
