"""What is wrong with data from outside: an error with its kind, and its entry in a list."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    """What kind of fault a fault is, in the words of reports, so that many can be counted."""

    MISSING_FILE = "missing file"
    UNREADABLE_FILE = "unreadable file"
    FILE_OUTSIDE = "file outside the folder"
    FILE_TOO_LARGE = "file too large"
    CHANNELS = "channels or depth of the image"
    VALUE_RANGE = "range of the image's values"
    IMAGE_SIZE = "size of the image"
    UNKNOWN_IMAGE = "unknown image"
    NOT_ANNOTATED = "image without annotations"
    ENTRY = "entry that cannot be read"
    ID = "id used twice"
    TWICE = "image or annotation twice"
    CLASS = "unknown class"
    CLASS_WITHOUT_OBJECTS = "class without objects"
    SPLITS_DIFFER = "splits of other classes"
    BOX = "box"
    BOX_OUTSIDE = "box outside the image"
    BOX_AND_MASK = "box and mask disagree"
    MASK = "mask"
    MASK_SIZE = "mask of another size"
    EMPTY_MASK = "empty mask"
    OUTLINE = "outline"
    CROSSING = "outline crosses itself"
    CROWD = "crowd region"
    AREA = "area"
    OBJECTS_LOST = "objects left out"


class FaultError(ValueError):
    """Something that cannot be used, or in a list of warnings something odd that can.

    Attributes:
        kind: of the fault.
    """

    def __init__(self, kind: FaultKind, reason: str):
        """Takes the kind of the fault, and what was found and what was expected."""
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in a dataset.

    Attributes:
        where: the file, and the annotation in it where there is one.
        reason: what was found and what was expected.
        kind: of the fault.
        severity: "error": the image or annotation cannot be used; "warning": it can.
        image_id: of the image that cannot be used, for faults of a whole image.
    """

    where: str
    reason: str
    kind: FaultKind
    severity: str = "error"
    image_id: int | str | None = None

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.reason}"


def fault_of(
    error: Exception, where: str, severity: str = "error", image_id: int | str | None = None
) -> Fault:
    """Returns what an error says as a fault.

    Args:
        error: a FaultError, or another one of reading a file.
        where: the file, and the annotation in it where there is one.
        severity: "error" or "warning".
        image_id: of the image that cannot be used, if one.
    """
    if isinstance(error, FaultError):
        kind = error.kind
    elif isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        kind = FaultKind.MISSING_FILE
    else:
        kind = FaultKind.UNREADABLE_FILE
    return Fault(where, str(error), kind, severity, image_id)


def raise_errors(faults: Iterable[Fault], on_error: str) -> None:
    """Raises ValueError naming the faults of severity "error" if `on_error` is "raise".

    Args:
        faults: those found.
        on_error: "skip": nothing happens, what is faulty has been left out; or "raise".
    """
    if on_error not in ("skip", "raise"):
        raise ValueError(f"on_error is {on_error!r}; expected 'skip' or 'raise'")
    errors = [fault for fault in faults if fault.severity == "error"]
    if errors and on_error == "raise":
        shown = "\n".join(f"  {fault.where}: {fault.reason}" for fault in errors[:20])
        more = f"\n  and {len(errors) - 20} more" if len(errors) > 20 else ""
        raise ValueError(
            f"{len(errors)} faults in the dataset (data.on_error='skip' leaves them out):\n"
            f"{shown}{more}"
        )
