"""What is wrong with data from outside, as an error that has a kind."""

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
    KEYPOINTS = "keypoints"


class FaultError(ValueError):
    """Something that cannot be used, or in a list of warnings something odd that can.

    Attributes:
        kind: of the fault.
    """

    def __init__(self, kind: FaultKind, reason: str):
        """Takes the kind of the fault, and what was found and what was expected."""
        super().__init__(reason)
        self.kind = kind


class Ignored(FaultError):
    """Why an object is ignored as a crowd region: what else is wrong with it than its place."""

    def __init__(self, problem: FaultError):
        """Takes what is wrong."""
        reason = f"{problem}; it is ignored as a crowd region, so as not to become background"
        super().__init__(problem.kind, reason)
