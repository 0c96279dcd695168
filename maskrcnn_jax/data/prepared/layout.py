"""Names within a prepared dataset."""

from importlib.util import find_spec

NAME = "instances"  # of the dataset, for tensorflow-datasets
VERSION = "1.0.0"  # of its features
WITHOUT_IMAGES = "_annotations"  # ends the name of the split that has a split's annotations alone


def check_array_record() -> None:
    """Raises ValueError where the package of the shards' format is not installed."""
    if find_spec("array_record") is None:
        raise ValueError(
            "prepared datasets need the package array_record, which tensorflow-datasets brings "
            "along on Linux alone; try: pip install array_record"
        )
