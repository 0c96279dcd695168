"""What kind of fault a fault is, so that many can be counted. Its words tell."""

import re

from maskrcnn_jax.data.records import Fault

# The first pattern that a reason has says its kind; patterns are of what readers and checks write.
_KINDS = (
    ("splits of other classes", r"^the training images, .* Both need"),
    ("class without objects", r"no instance of"),
    ("image or annotation twice", r"same bytes|same file|class, box and mask of annotation"),
    ("id used twice", r"earlier (image|one)|same id"),
    ("file outside the folder", r"leads out of"),
    ("file too large", r"refused unread|more than the \d+ of data.max_pixels|decompression bomb"),
    ("channels or depth of the image", r"data\.(channels|depth)|bits a value|has the axes"),
    ("missing file", r"No such file|Is a directory|there is no|has no 'file_name'|\d+ images;"),
    ("unreadable file", r"not a readable image|Permission denied|is not a.* file"),
    ("mask of another size", r"run-length mask is of size|mask is \d+ x \d+|^the runs|runs of the"),
    ("size of the image", r"annotations are for|height and width are|meant for|is \d+ x \d+"),
    ("unknown class", r"category_id|its class|class indices|label_names|not in class_names"),
    ("unknown image", r"image_id"),
    ("empty mask", r"covers no pixel|mask is empty|has no mask"),
    ("outline crosses itself", r"crosses itself"),
    ("box and mask disagree", r"hardly agree"),
    ("box outside the image", r"lies outside|leaves its image|far out of|reaches"),
    ("box", r"bbox|bndbox|box \["),
    ("mask", r"run lengths|run-length|a run of|segmentation is|base64"),
    ("outline", r"polygon|line|corners|points|no inside|radius|rectangle|coordinates|pairs x y"),
    ("image without annotations", r"no annotation at all|no labels|without"),
)
OTHER = "other"


def kind_of(fault: Fault) -> str:
    """Returns the kind of a fault, a few words for counting; "other" where none is known."""
    found = (kind for kind, pattern in _KINDS if re.search(pattern, fault.reason))
    return next(found, OTHER)
