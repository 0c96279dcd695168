"""What the keypoints of an object are: their names, and what belongs to them."""

from dataclasses import dataclass

import numpy as np

# What COCO's whole-number positions lack to positions in an image, whose first pixel reaches from 0
# to 1: they name pixels.
HALF_PIXEL = 0.5

# Score below which a keypoint is neither drawn nor given to be corrected, as Detectron2 draws them.
SHOWN = 0.05


@dataclass(frozen=True, slots=True)
class KeypointSet:
    """The P keypoints that each object has.

    Attributes:
        names: P names.
        mirrored: [P], which keypoint each of them is in a mirror: the left eye is the right one.
        skeleton: pairs of keypoints, by numbers from 0, between which a line is drawn.
        sigmas: [P], how precisely people place each of them, as COCO's similarity (OKS) takes it.
        half_pixel: whether the detector's positions are those in an image; False: they are those of
            COCO's annotations, half a pixel less.
    """

    names: tuple[str, ...]
    mirrored: tuple[int, ...]
    skeleton: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()
    half_pixel: bool = True

    def coco_entry(self) -> dict[str, list]:
        """Returns what COCO's categories say of them: names, and pairs that count from 1."""
        skeleton = [[first + 1, second + 1] for first, second in self.skeleton]
        return {"keypoints": list(self.names), "skeleton": skeleton}

    @property
    def shift(self) -> float:
        """Pixels that the detector's positions lack to those in an image."""
        return 0.0 if self.half_pixel else HALF_PIXEL


def empty_keypoints(number: int, keypoints: int) -> np.ndarray:
    """Returns the keypoints [n, P, 3] float32 of n objects without a single one that is known."""
    return np.zeros((number, keypoints, 3), np.float32)


def coco_keypoints(keypoints: np.ndarray) -> list[float]:
    """Returns keypoints [P, 3] of an image as COCO's list x1, y1, v1, ...: x and y name pixels.

    Those whose third value is 0, which are not known, are at 0.
    """
    shifted = np.asarray(keypoints, np.float64) - (HALF_PIXEL, HALF_PIXEL, 0)
    return np.where(keypoints[:, 2:] > 0, shifted, 0.0).ravel().tolist()
