"""What all readers of formats take beside the arguments of their own format."""

from collections.abc import Iterable
from dataclasses import dataclass

from maskrcnn_jax.data.split import of_split
from maskrcnn_jax.images.read import MAX_PIXELS


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Which images a reader takes, and what it does with those that are faulty.

    Attributes:
        split: "train", "val", or "" for all images (see `of_split`). Formats that divide their
            images otherwise have a `split` of their own in place of these first three.
        val_fraction: fraction of the validation images, where `split` is given.
        split_seed: another one divides the images otherwise.
        on_error: "skip" leaves out what is faulty and lists it; "raise" accepts no fault.
        max_pixels: an image or mask of more pixels is refused before it is decoded.
        boxes_as_masks: whether the box of an object without a mask is taken for its mask, where
            the format has such (COCO's, Pascal VOC's, YOLO's); else it is ignored.
        keypoints: names of the keypoints that are read, where the format has such (COCO's,
            labelme's); `config.model.keypoints.names`, and no argument in `data.train`.
    """

    split: str = ""
    val_fraction: float = 0.2
    split_seed: int = 0
    on_error: str = "skip"
    max_pixels: int = MAX_PIXELS
    boxes_as_masks: bool = False
    keypoints: tuple[str, ...] = ()

    def chosen(self, names: Iterable[str]) -> list[str]:
        """Returns the names that belong to the split, in their order.

        Raises:
            ValueError: as `of_split`.
        """
        return of_split(names, self.split, self.val_fraction, self.split_seed)


DEFAULTS = ReadOptions()
DIVISION = ("split", "val_fraction", "split_seed")  # those of them that divide the images
