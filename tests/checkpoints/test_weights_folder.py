"""safetensors and config.json: read back to the bit, and damage noticed."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from maskrcnn_jax.checkpoints import weights_folder
from maskrcnn_jax.export.detector import load
from tests.export.nets import CLASS_NAMES, detector


@pytest.fixture
def folder(tmp_path):
    made = detector("matterport")
    weights_folder.write(tmp_path / "model", made.variables, made.metadata)
    return tmp_path / "model"


def test_read_back_to_the_bit(folder):
    made, back = detector("matterport"), load(folder)
    assert jax.tree.structure(made.variables) == jax.tree.structure(back.variables)
    for ours, theirs in zip(*map(jax.tree.leaves, (made.variables, back.variables)), strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.tobytes() == theirs.tobytes()
    assert back.model_config == made.model_config
    assert back.metadata["class_names"] == CLASS_NAMES
    assert back.metadata["category_ids"] == (10, 20, 30)
    assert back.metadata["step"] == 7


def test_names_are_paths(folder):
    names = load_file(folder / weights_folder.WEIGHTS)
    assert "params.backbone.stem.conv.kernel" in names
    assert "batch_stats.backbone.stem.norm_layer.var" in names


def test_a_changed_weight_is_refused(folder):
    arrays = load_file(folder / weights_folder.WEIGHTS)
    arrays["params.rpn.logits.bias"][1] += np.float32(1e-6)
    save_file(arrays, folder / weights_folder.WEIGHTS)
    with pytest.raises(ValueError, match=r"1 arrays are not what was written.*rpn\.logits\.bias"):
        load(folder)


def test_a_missing_array_is_refused(folder):
    arrays = load_file(folder / weights_folder.WEIGHTS)
    del arrays["params.rpn.logits.bias"]
    save_file(arrays, folder / weights_folder.WEIGHTS)
    with pytest.raises(ValueError, match=r"rpn\.logits\.bias is missing"):
        load(folder)


def test_a_cut_file_is_refused(folder):
    path = folder / weights_folder.WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        load(folder)


@pytest.mark.parametrize("content", ["{", "[]", '"x"', "{}", '{"checksums": 1, "format": 1}'])
def test_another_json_is_refused(folder, content):
    (folder / weights_folder.CONFIG).write_text(content)
    with pytest.raises(ValueError, match=r"config\.json is not what"):
        load(folder)


def test_a_later_format_is_refused(folder):
    path = folder / weights_folder.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(ValueError, match="install a newer"):
        load(folder)
