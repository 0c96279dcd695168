"""The objects of Pascal VOC's XML files: a class, a box, and whether it is difficult."""

from dataclasses import dataclass
from xml.etree.ElementTree import Element

from maskrcnn_jax.data.files.annotation_files import read_xml
from maskrcnn_jax.data.masks.instances import class_number, instance
from maskrcnn_jax.data.masks.outlines import rectangle
from maskrcnn_jax.data.masks.segmentation import Polygons
from maskrcnn_jax.data.records import Instance
from maskrcnn_jax.faults import Fault, FaultError, FaultKind, fault_of

_MIN_IOU = 0.5  # of an object's box and the one around the mask that is taken for its own


@dataclass(frozen=True, slots=True)
class VocObject:
    """One `object` of an XML file; its box is xyxy in continuous coordinates."""

    name: str
    box: tuple[float, float, float, float]
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
    if root.find("size") is not None:
        size = tuple(_number(root, f"size/{side}", path) for side in ("height", "width"))
        if size != (height, width):
            raise FaultError(
                FaultKind.IMAGE_SIZE,
                f"{path} is meant for an image of {size[0]:g} x {size[1]:g} (height x width); its "
                f"masks are {height} x {width}",
            )
    objects = []
    for number, element in enumerate(root.findall("object"), 1):
        where = f"{path}: object {number}"
        sides = ("xmin", "ymin", "xmax", "ymax")
        x1, y1, x2, y2 = (_number(element, f"bndbox/{side}", where) for side in sides)
        difficult = (element.findtext("difficult") or "").strip() == "1"
        name = (element.findtext("name") or "").strip()
        objects.append(VocObject(name, (x1 - 1, y1 - 1, x2, y2), difficult))
    return objects


def add_objects(
    instances: list[Instance],
    objects: list[VocObject],
    numbers: dict[str, int],
    height: int,
    width: int,
    source: str,
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
    """
    instances, faults = list(instances), []
    free = set(range(len(instances)))  # masks that no object has yet
    for count, item in enumerate(objects, 1):
        where = f"{source}: object {count}"
        try:
            wanted = class_number(item.name, numbers)
            x1, y1, x2, y2 = item.box
            if not (x2 > x1 and y2 > y1):
                raise FaultError(
                    FaultKind.BOX,
                    f"its bndbox from ({x1 + 1:g}, {y1 + 1:g}) to ({x2:g}, {y2:g}) has no area",
                )
            same = [i for i in free if instances[i].class_number == wanted]
            best = max(same, key=lambda i: (_iou(instances[i].box, item.box), -i), default=None)
            if best is not None and _iou(instances[best].box, item.box) >= _MIN_IOU:
                free.remove(best)
                if item.difficult:
                    instances[best] = instances[best]._replace(crowd=True)
                continue
            outline = Polygons([rectangle(*item.box)])
            instances.append(instance(outline, wanted, height, width, crowd=True))
            if not item.difficult:
                reason = f"the {item.name} has a box but no mask; it becomes a crowd region"
                faults.append(Fault(where, reason, FaultKind.CROWD, "warning"))
        except ValueError as error:
            faults.append(fault_of(error, where))
    return instances, faults


def _number(element: Element, key: str, where: str) -> float:
    text = element.findtext(key)
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e9:
        raise FaultError(FaultKind.BOX, f"{where}: {key} is {text!r}; expected a number")
    return value


def _iou(a: tuple, b: tuple) -> float:
    """Returns the IoU of two boxes, xyxy."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / both if both > 0 else 0.0
