"""What a user gets for one image: detections in the pixels of the original image.

What draws a result, or writes it in another format, is imported when it is first asked for.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from maskrcnn_jax.files import write_atomically
from maskrcnn_jax.images.paste import MaskCrop, box_crop, full_mask, paste_crop
from maskrcnn_jax.images.png import SUFFIXES, encode_picture
from maskrcnn_jax.inference.source_image import SourceImage
from maskrcnn_jax.models.detections import Detections

if TYPE_CHECKING:
    from maskrcnn_jax.keypoint_set import KeypointSet


class FoundObject(NamedTuple):
    """One object of a result.

    Attributes:
        class_name: of its class.
        score: 0..1.
        box: `[4]` float32, xyxy, pixels of the image.
        mask: `[height, width]` bool; None of a model of boxes alone.
        keypoints: `[P, 3]` float32: x and y in pixels of the image, and score; None of a model
            without.
    """

    class_name: str
    score: float
    box: np.ndarray
    mask: np.ndarray | None
    keypoints: np.ndarray | None = None


@dataclass(frozen=True)
class Result:
    """The detections of one image, best first; iterating gives each as a `FoundObject`.

    Attributes:
        boxes: `[n, 4]` float32, xyxy, pixels of the original image, inside it.
        scores: `[n]` float32, 0..1.
        classes: `[n]` int32, 1..K.
        class_names: n names.
        crops: n masks, each only where its box is: a hundred masks of a photograph of 12
            megapixels would take 1.2 GB. Of a model of boxes alone, the boxes.
        height: of the original image, pixels.
        width: of the original image, pixels.
        category_ids: K ids that the data set gives the classes; empty: their numbers.
        source: the image as it was given; None: `draw` must be given it.
        has_masks: False of a model of boxes alone (`config.model.masks`).
        keypoints: `[n, P, 3]` float32: x and y in pixels of the image, and score, 0..1; None of a
            model without (`config.model.keypoints`).
        keypoint_set: what they are, their names and the skeleton; None without.
        mask_scores: `[n]` float32, 0..1, by which masks are compared, in evaluation say; None of a
            model without (`config.model.mask_scoring`), whose masks have `scores`.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...]
    crops: tuple[MaskCrop, ...] = field(repr=False)
    height: int
    width: int
    category_ids: tuple[int, ...] = ()
    source: SourceImage | None = field(default=None, repr=False)
    has_masks: bool = True
    keypoints: np.ndarray | None = None
    keypoint_set: "KeypointSet | None" = field(default=None, repr=False)
    mask_scores: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[FoundObject]:
        points = [None] * len(self) if self.keypoints is None else self.keypoints
        for name, score, box, crop, keypoints in zip(
            self.class_names, self.scores, self.boxes, self.crops, points, strict=True
        ):
            mask = full_mask(crop, self.height, self.width) if self.has_masks else None
            yield FoundObject(name, float(score), box, mask, keypoints)

    def chosen(self, indices: Sequence[int] | np.ndarray) -> "Result":
        """Returns the result with the detections of these indices, in their order."""
        return replace(
            self,
            boxes=self.boxes[indices],
            scores=self.scores[indices],
            classes=self.classes[indices],
            class_names=tuple(self.class_names[i] for i in indices),
            crops=tuple(self.crops[i] for i in indices),
            keypoints=None if self.keypoints is None else self.keypoints[indices],
            mask_scores=None if self.mask_scores is None else self.mask_scores[indices],
        )

    def filter(
        self,
        score: float = 0.0,
        classes: str | int | Iterable[str | int] | None = None,
        area: tuple[float, float] = (0, np.inf),
    ) -> "Result":
        """Returns the result with those detections that are wanted.

        Args:
            score: the lowest one.
            classes: a name, or a number 1..K, or several of them; None: all.
            area: lowest and highest of `areas`, both included.

        Raises:
            ValueError: `area` is not of two numbers.
        """
        keep = self.scores >= score
        if classes is not None:
            wanted = {classes} if isinstance(classes, str | int) else set(classes)
            pairs = zip(self.classes.tolist(), self.class_names, strict=True)
            keep &= np.array([bool({*pair} & wanted) for pair in pairs], bool)
        if np.shape(area) != (2,):
            raise ValueError(f"area is {area!r}; give the lowest and the highest, as (0, 500)")
        keep &= (self.areas >= area[0]) & (self.areas <= area[1])
        return self.chosen(np.flatnonzero(keep))

    @cached_property
    def areas(self) -> np.ndarray:
        """The number of pixels of each mask, without masks of each box, `[n]` int64."""
        return np.array([crop.mask.sum() for crop in self.crops], np.int64)

    @cached_property
    def masks(self) -> np.ndarray:
        """The masks at full size, `[n, height, width]` bool; made when first asked for.

        Raises:
            ValueError: the model gives boxes alone.
        """
        if not self.has_masks:
            raise ValueError("the model gives boxes alone (config.model.masks = False)")
        masks = np.zeros((len(self), self.height, self.width), bool)
        for mask, crop in zip(masks, self.crops, strict=True):
            mask[:] = full_mask(crop, self.height, self.width)
        return masks

    def draw(self, image: np.ndarray | None = None, **options: Any) -> np.ndarray:
        """Draws the detections over the image.

        Args:
            image: `[h, w, C]` uint8 or uint16; None: the image that was given to the predictor,
                whose file is read again.
            options: of `visualization.overlay.draw_result`.

        Returns:
            `[H, W, 3]` uint8, RGB.

        Raises:
            ValueError: no image is known, or it is of another size; or its file is no image now.
            OSError: its file is gone.
        """
        if image is None:
            if self.source is None:
                raise ValueError("this result does not know its image; give it as draw(image)")
            image = self.source.read()
        if image.shape[:2] != (self.height, self.width):
            raise ValueError(
                f"the image has {image.shape[0]} x {image.shape[1]} pixels (height x width); the "
                f"result is of one of {self.height} x {self.width}"
            )
        from maskrcnn_jax.visualization.overlay import draw_result

        return draw_result(image, self, **options)

    def save(self, path: str | Path, **options: Any) -> None:
        """Writes the result as a file.

        Args:
            path: of a picture, as `draw` gives it, or of a JSON file for labelme (`to_labelme`).
            options: of `draw`, or of `to_labelme`.

        Raises:
            ValueError: the file's suffix is of neither; or as `draw` and `to_labelme`.
            OSError: it cannot be written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".json":
            if self.source is not None and self.source.path is not None:
                there, here = (p.absolute() for p in (self.source.path, path.parent))
                options = {"image_path": Path(os.path.relpath(there, here)).as_posix(), **options}
            write_atomically(path, json.dumps(self.to_labelme(**options), indent=2))
        elif suffix in SUFFIXES:
            write_atomically(path, encode_picture(self.draw(**options), suffix))
        else:
            raise ValueError(f"{path}: give a name that ends in .json or {', '.join(SUFFIXES)}")

    def to_coco(self, image_id: int | str = 1) -> list[dict[str, Any]]:
        """Returns the detections as entries of a COCO results file, ready for `json.dump`.

        Args:
            image_id: as the data set names the image.

        Returns:
            A dict per detection: `image_id`, `category_id`, `bbox` (x, y, width, height in
            pixels), `score`, `segmentation` (compressed run lengths; not without masks),
            `mask_score` and `keypoints` where the model has such (see `inference.coco_results`);
            besides them `class_name`.
        """
        from maskrcnn_jax.inference.coco_results import coco_results

        ids = self.category_ids or range(1, 1 + max(self.classes.tolist(), default=0))
        entries = coco_results(self, image_id, ids)
        return [
            {**entry, "class_name": name}
            for entry, name in zip(entries, self.class_names, strict=True)
        ]

    def to_labelme(self, image_path: str | None = None) -> dict[str, Any]:
        """Returns the content of a JSON file for labelme, see `inference.labelme`.

        Args:
            image_path: of the image, relative to the JSON file; None: the name of the file that was
                given to the predictor.

        Raises:
            ValueError: an array was given, which has no name.
        """
        from maskrcnn_jax.inference.labelme import labelme_content

        if image_path is None:
            if self.source is None or self.source.path is None:
                raise ValueError(
                    "labelme's files name their image; give it as image_path=, relative to the file"
                )
            image_path = self.source.path.name
        return labelme_content(self, image_path)


def to_result(
    detections: Detections,
    index: int,
    image_size: np.ndarray,
    original_size: np.ndarray,
    class_names: Sequence[str],
    min_score: float = 0.0,
    mask_paste: str = "exact",
    keypoints: "KeypointSet | None" = None,
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
        keypoints: what those of the detections are; None: there are none.

    Returns:
        The result, in the order of the detections.
    """
    height, width = (int(side) for side in original_size)
    chosen = np.asarray(detections.valid[index]) & (detections.scores[index] >= min_score)
    ratio = np.array([height, width], np.float32) / np.asarray(image_size, np.float32)
    boxes = np.asarray(detections.boxes[index])[chosen] * ratio[[1, 0, 1, 0]]
    boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    classes = np.asarray(detections.classes[index])[chosen]
    if has_masks := detections.masks is not None:
        grids = np.asarray(detections.masks[index])[chosen]
        pairs = zip(grids, boxes, strict=True)
        crops = [paste_crop(*pair, height, width, rule=mask_paste) for pair in pairs]
    else:
        crops = [box_crop(box) for box in boxes]
    mask_scores = detections.mask_scores
    if mask_scores is not None:
        mask_scores = np.asarray(mask_scores[index])[chosen].astype(np.float32)
    points = None
    if keypoints is not None:
        points = np.array(np.asarray(detections.keypoints)[index][chosen], np.float32)
        points[..., :2] = points[..., :2] * ratio[::-1] + np.float32(keypoints.shift)
    return Result(
        boxes=boxes.astype(np.float32),
        scores=np.asarray(detections.scores[index])[chosen].astype(np.float32),
        classes=classes.astype(np.int32),
        class_names=tuple(class_names[k - 1] for k in classes),
        crops=tuple(crops),
        height=height,
        width=width,
        has_masks=has_masks,
        keypoints=points,
        keypoint_set=keypoints,
        mask_scores=mask_scores,
    )
