"""What lies in a folder that tensorflow-datasets has prepared, checked before it is opened.

Such a folder may come from anyone. tensorflow-datasets takes names of files from it, which could
lead anywhere, and as many of them as it says.
"""

import os
import re
from pathlib import Path
from typing import Any

from maskrcnn_jax.data.files.annotation_files import read_json
from maskrcnn_jax.data.files.json_values import whole
from maskrcnn_jax.files import check_regular

INFO = "dataset_info.json"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"  # that of tensorflow-datasets
_NAME = re.compile(r"[\w][\w.-]{0,200}")
_MOST_JSON = 50_000_000  # bytes of one of its JSON files


def check_folder(prepared: str | os.PathLike) -> None:
    """Checks the files of a prepared dataset, and what it says of its splits.

    Args:
        prepared: the folder with dataset_info.json.

    Raises:
        ValueError: a file is no regular one or too large, or the splits are not as
            tensorflow-datasets writes them.
        OSError: a file may not be read.
    """
    check_regular(Path(prepared))
    names = os.listdir(prepared)
    for name in names:
        path = os.path.join(prepared, name)
        if name.endswith(".json") and os.path.getsize(path) > _MOST_JSON:
            raise ValueError(f"{path} is larger than {_MOST_JSON:,} bytes; it is not read")
    source = os.path.join(prepared, INFO)
    content = read_json(source, "what tensorflow-datasets writes")
    splits = content.get("splits") if isinstance(content, dict) else None
    if not isinstance(splits, list):
        raise ValueError(f"{source} has no list of splits; copy it again, or prepare it again")
    for entry in splits:
        _check_split(entry, len(names), source)


def _check_split(entry: Any, num_files: int, source: str) -> None:
    if not isinstance(entry, dict) or not _is_name(entry.get("name")):
        raise ValueError(f"{source} has the split {entry!r:.80}; expected one with a name")
    where = f"{source}: split {entry['name']!r}"
    if entry.get("filepathTemplate") not in (None, "", _TEMPLATE):
        raise ValueError(
            f"{where} has its files at {entry['filepathTemplate']!r:.200}; expected {_TEMPLATE}, "
            "for nothing outside the dataset's folder is read"
        )
    lengths = entry.get("shardLengths", [])
    if not isinstance(lengths, list) or len(lengths) > num_files:
        count = len(lengths) if isinstance(lengths, list) else repr(lengths)[:80]
        raise ValueError(f"{where} has {count} shards; the folder has {num_files} files")
    if any(number is None or number < 0 for number in map(whole, lengths)):
        raise ValueError(f"{where} has shards of {lengths!r:.80} images; expected whole numbers")


def check_metadata(metadata: Any, source: str) -> None:
    """Checks what a prepared dataset says of its classes.

    Args:
        metadata: `class_names`, `category_ids`, and `names` of the splits.
        source: the dataset, for the message.

    Raises:
        ValueError: they are not as `prepare` writes them.
    """
    classes, ids, names = (metadata.get(k) for k in ("class_names", "category_ids", "names"))
    if not _is_list(classes, str) or not all(classes) or len(set(classes)) != len(classes):
        raise ValueError(
            f"{source} has the class_names {classes!r:.200}; expected names, each once"
        )
    if not _is_list(ids, int) or len(ids) != len(classes) or len(set(ids)) != len(ids):
        raise ValueError(
            f"{source} has the category_ids {ids!r:.200}; expected {len(classes)} whole numbers, "
            "each once"
        )
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{source} has the names {names!r:.200}; expected one for each split")


def _is_list(given: Any, kind: type) -> bool:
    return isinstance(given, list) and bool(given) and all(type(value) is kind for value in given)


def _is_name(given: Any) -> bool:
    return isinstance(given, str) and _NAME.fullmatch(given) is not None
