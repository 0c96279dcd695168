"""The objects of Pascal VOC's XML files: a class, a box, and whether it is difficult."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from maskrcnn_jax.data.faults import Fault, fault_of
from maskrcnn_jax.data.files.annotation_files import read_xml
from maskrcnn_jax.data.files.json_values import number
from maskrcnn_jax.data.masks.instances import class_or_ignored, instance
from maskrcnn_jax.data.masks.outlines import rectangle
from maskrcnn_jax.data.masks.segmentation import Polygons
from maskrcnn_jax.data.records import Instance
from maskrcnn_jax.faults import FaultError, FaultKind

_MIN_IOU = 0.5  # of an object's box and the one around the mask that is taken for its own


@dataclass(frozen=True, slots=True)
class VocObject:
    """One `object` of an XML file; its box is xyxy in continuous coordinates, None if unknown."""

    name: str
    box: tuple[float, float, float, float] | None
    difficult: bool


def read_objects(path: str, height: int, width: int) -> list[VocObject]:
    """Returns the objects of an XML file in its order, without their parts (heads, hands).

    VOC counts pixels from 1 and includes the last; its boxes become continuous coordinates.

    Args:
        path: of the XML file.
        height: of the image, in pixels, to which the file's size is compared.
        width: likewise.

    Raises:
        ValueError: the file is no such XML, or is meant for an image of another size.
    """
    root = read_xml(path, "an <annotation> of Pascal VOC")
    if root.tag != "annotation":
        raise FaultError(
            FaultKind.ENTRY, f"{path} has <{root.tag}> outermost; expected <annotation>"
        )
    size = tuple(_number(root, f"size/{side}") for side in ("height", "width"))
    # LabelImg writes 0 where it could not tell.
    if None not in size and size not in ((0, 0), (height, width)):
        raise FaultError(
            FaultKind.IMAGE_SIZE,
            f"{path} is meant for an image of {size[0]:g} x {size[1]:g} (height x width); it is "
            f"{height} x {width}",
        )
    objects = []
    for element in root.findall("object"):
        sides = [_number(element, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        x1, y1, x2, y2 = (side or 0.0 for side in sides)
        box = None if None in sides else (x1 - 1, y1 - 1, x2, y2)
        difficult = (element.findtext("difficult") or "").strip() == "1"
        name = (element.findtext("name") or "").strip()
        objects.append(VocObject(name, box, difficult))
    return objects


def add_objects(
    instances: list[Instance],
    objects: list[VocObject],
    numbers: dict[str, int],
    height: int,
    width: int,
    source: str,
    boxes_as_masks: bool = False,
) -> tuple[list[Instance], list[Fault]]:
    """Returns an image's instances with what its XML file knows beyond their masks, and faults.

    An instance whose object is difficult becomes a crowd region; an object without a mask is
    added as the crowd region of its box.

    Args:
        instances: those that have a mask.
        objects: of the XML file.
        numbers: of the classes.
        height: of the image, in pixels.
        width: of the image, in pixels.
        source: the XML file.
        boxes_as_masks: whether an object without a mask is one, whose mask is its box.
    """
    instances, faults = list(instances), []
    free = set(range(len(instances)))  # masks that no object has yet
    for count, item in enumerate(objects, 1):
        where = f"{source}: object {count}"
        if item.box is None:
            reason = "it has no bndbox of four numbers; its mask, if it has one, is used as it is"
            faults.append(Fault(where, reason, FaultKind.BOX, "warning"))
            continue
        warnings: list[FaultError] = []
        try:
            wanted, unknown = class_or_ignored(item.name, numbers, warnings)
            best = _of_box(item.box, instances, free, None if unknown else wanted)
            if best is not None:
                free.remove(best)
                if item.difficult:
                    instances[best] = instances[best]._replace(crowd=True)
                continue  # its mask says the class
            outline = Polygons([_rectangle(item.box)])
            ignored = item.difficult or unknown or not boxes_as_masks
            instances.append(instance(outline, wanted, height, width, crowd=ignored))
            if not item.difficult and not unknown and not boxes_as_masks:
                reason = f"the {item.name} has a box but no mask; it becomes a crowd region"
                faults.append(Fault(where, reason, FaultKind.CROWD, "warning", objects=1))
            faults += [fault_of(warning, where, "warning") for warning in warnings]
        except ValueError as error:
            faults.append(fault_of(error, where))
    return instances, faults


def _of_box(
    box: tuple, instances: list[Instance], free: set[int], wanted: int | None
) -> int | None:
    """Returns which of the free instances a box is of: of its class, if it is known."""
    same = [i for i in free if wanted in (None, instances[i].class_number)]
    best = max(same, key=lambda i: (_iou(instances[i].box, box), -i), default=None)
    return best if best is not None and _iou(instances[best].box, box) >= _MIN_IOU else None


def _rectangle(box: tuple[float, float, float, float]) -> np.ndarray:
    x1, y1, x2, y2 = box
    if not (x2 > x1 and y2 > y1):
        raise FaultError(
            FaultKind.BOX,
            f"its bndbox from ({x1 + 1:g}, {y1 + 1:g}) to ({x2:g}, {y2:g}) has no area",
        )
    return rectangle(*box)


def _number(element: Element, key: str) -> float | None:
    return number((element.findtext(key) or "").strip())


def _iou(a: Sequence[float] | np.ndarray, b: Sequence[float]) -> float:
    """Returns the IoU of two boxes, xyxy."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / both if both > 0 else 0.0
