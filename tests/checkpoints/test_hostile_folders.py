"""Checkpoint folders that hold what a library would wait for, or read without end."""

import os

import pytest

from maskrcnn_jax.checkpoints.folder import CheckpointFolder
from maskrcnn_jax.checkpoints.format import _check_classes, make_manager
from maskrcnn_jax.checkpoints.load import load_for_inference, metadata_to_resume


@pytest.mark.parametrize("kind", ["FIFO", "device", "link to a folder"])
@pytest.mark.parametrize("name", ["7/metadata/metadata", "7/_CHECKPOINT_METADATA", "7/variables"])
def test_only_regular_files_are_read(tmp_path, name, kind):
    path = tmp_path / "checkpoints" / name
    path.parent.mkdir(parents=True)
    if kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else tmp_path)
    for read in (
        load_for_inference,
        metadata_to_resume,
        lambda folder: CheckpointFolder(folder / "checkpoints", 1),
    ):
        with pytest.raises(ValueError, match=f"{name} is neither a regular file nor a folder"):
            read(tmp_path)


def test_opening_a_folder_to_read_warns_of_nothing(tmp_path, caplog):
    with caplog.at_level("WARNING", logger="absl"), make_manager(tmp_path, None, read_only=True):
        pass
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(class_names="cat"), "class_names is 'cat'; expected names"),
        (dict(class_names=["cat", 7]), "class_names is"),
        (dict(category_ids=["1", 2]), "category_ids is .*; expected 2 whole numbers"),
        (dict(category_ids=[1]), "category_ids is"),
        (dict(category_ids=[1, True]), "category_ids is"),
    ],
)
def test_classes_of_other_types_are_refused(changes, reason):
    metadata = {"class_names": ["cat", "dog"], "category_ids": [1, 2]}
    _check_classes(metadata)
    with pytest.raises(ValueError, match=reason):
        _check_classes(metadata | changes)
