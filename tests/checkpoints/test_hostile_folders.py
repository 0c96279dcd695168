"""Checkpoint folders that hold what a library would wait for, or read without end."""

import os

import pytest

from maskrcnn_jax.checkpoints.folder import CheckpointFolder
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
