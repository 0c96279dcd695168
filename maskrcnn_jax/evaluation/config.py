"""The settings of evaluation: `config.eval`."""

from collections.abc import Sequence
from dataclasses import dataclass

from maskrcnn_jax.config_fields import check_fields, setting

METRICS = ("voc07", "voc12", "matterport", "lvis", "boundary")


@dataclass(slots=True)
class EvalConfig:
    """What is evaluated, and how."""

    batch_size: int = setting(16, "images at a time over all devices", within="[1, inf)")
    max_images: int = setting(0, "evaluate the first ones alone; 0: all", within="[0, inf)")
    max_detections: tuple[int, ...] = setting(
        (1, 10, 100), "the three limits of COCO's recall; the last is for AP", within="[1, inf)"
    )
    metrics: tuple[str, ...] = setting(
        (), "what is measured besides COCO's numbers; docs/evaluation.md", choices=METRICS
    )
    pictures: int = setting(
        8, "images drawn with their predictions after an evaluation", within="[0, inf)"
    )
    loss: bool = setting(False, "measure the losses of the validation images, too")

    def validate(self, key: str = "config.eval") -> None:
        """Checks every value.

        Raises:
            ValueError: naming the key, its value and what is expected.
        """
        check_fields(self, key)
        check_limits(self.max_detections, f"{key}.max_detections")


def check_limits(limits: Sequence[int], key: str = "max_detections") -> None:
    """Checks the limits of COCO's recall.

    Raises:
        ValueError: naming the key, where they do not increase from at least 1.
    """
    if not limits or min(limits) < 1 or sorted(set(limits)) != list(limits):
        raise ValueError(
            f"{key} is {tuple(limits)}; expected increasing positive numbers such as (1, 10, 100)"
        )
