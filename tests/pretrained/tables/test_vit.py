"""MAE's encoders and Detectron2's ViTDets by their names; other kinds of ViT are refused."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.pretrained import convert, sources
from maskrcnn_jax.pretrained.tables import vit
from maskrcnn_jax.pretrained.tables.mapping import flat
from tests.parity.reference import Reference

VALUES = Path(__file__).resolve().parents[2] / "parity" / "values"
SOURCE = {source.name: source for source in sources.SOURCES}
CHANNELS, DEPTH, GRID = 128, 8, 3


def _encoder(patch=16):
    """A narrow encoder of MAE, with its decoder."""
    rng = np.random.default_rng(0)
    shapes = {
        "cls_token": (1, 1, CHANNELS),
        "pos_embed": (1, 1 + GRID**2, CHANNELS),
        "mask_token": (1, 1, 16),
        "decoder_embed.weight": (16, CHANNELS),
        "patch_embed.proj.weight": (CHANNELS, 3, patch, patch),
        "patch_embed.proj.bias": (CHANNELS,),
        "norm.weight": (CHANNELS,),
        "norm.bias": (CHANNELS,),
    }
    of_block = {
        "norm1.weight": (CHANNELS,),
        "norm1.bias": (CHANNELS,),
        "attn.qkv.weight": (3 * CHANNELS, CHANNELS),
        "attn.qkv.bias": (3 * CHANNELS,),
        "attn.proj.weight": (CHANNELS, CHANNELS),
        "attn.proj.bias": (CHANNELS,),
        "norm2.weight": (CHANNELS,),
        "norm2.bias": (CHANNELS,),
        "mlp.fc1.weight": (4 * CHANNELS, CHANNELS),
        "mlp.fc1.bias": (4 * CHANNELS,),
        "mlp.fc2.weight": (CHANNELS, 4 * CHANNELS),
        "mlp.fc2.bias": (CHANNELS,),
    }
    for i in range(DEPTH):
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in of_block.items()}
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def test_an_encoder_of_mae_is_a_backbone_with_windows(tmp_path):
    state = _encoder()
    save_file(state, tmp_path / "mae.safetensors")
    weights = convert.load(tmp_path / "mae.safetensors")
    assert (weights.kind, weights.part) == ("mae_vit", "backbone")
    expected = {"depth": DEPTH, "channels": CHANNELS, "heads": 2, "position_grid": GRID}
    expected |= {"window": 14, "global_blocks": (1, 3, 5, 7)}
    assert {key: weights.model[f"backbone.vit.{key}"] for key in expected} == expected
    assert set(weights.left) == {
        *("cls_token", "mask_token", "decoder_embed.weight", "norm.weight", "norm.bias")
    }
    ours = flat(weights.variables)
    stem = ("params", "backbone", "stem")
    np.testing.assert_array_equal(
        ours[*stem, "positions"][1, 2], state["pos_embed"][0, 1 + GRID + 2]
    )
    np.testing.assert_array_equal(
        ours[*stem, "patches", "kernel"][3, 5, 1], state["patch_embed.proj.weight"][:, 1, 3, 5]
    )
    relative = [array for path, array in ours.items() if path[-1].startswith("relative")]
    assert len(relative) == 2 * DEPTH
    assert not any(array.any() for array in relative)


def test_patches_of_another_size_are_refused(tmp_path):
    save_file(_encoder(patch=14), tmp_path / "mae_huge.safetensors")
    with pytest.raises(ValueError, match=r"read as mae_vit: it has patches of \(14, 14\) pixels"):
        convert.load(tmp_path / "mae_huge.safetensors")


def test_heads_and_windows_of_the_published_encoders():
    """ViT-H has 16 heads of 80 channels, the smaller ones heads of 64."""
    for channels, depth, heads, last in (
        (768, 12, 12, (2, 5, 8, 11)),
        (1024, 24, 16, (5, 11, 17, 23)),
        (1280, 32, 16, (7, 15, 23, 31)),
    ):
        state = {
            "patch_embed.proj.weight": np.broadcast_to(np.float32(0), (channels, 3, 16, 16)),
            "pos_embed": np.broadcast_to(np.float32(0), (1, 197, channels)),
            f"blocks.{depth - 1}.norm1.bias": np.zeros(1),
        }
        found = vit.encoder_layers(state)
        assert found["backbone.vit.heads"] == heads
        assert found["backbone.vit.global_blocks"] == last
        assert found["backbone.vit.position_grid"] == 14


def test_a_cascade_has_three_box_heads():
    state = {}
    for name, shape in Reference(VALUES / "vitdet_d2.npz").meta["names_and_shapes"]:
        array = np.broadcast_to(np.float32(0), shape)
        head = next((h for h in ("box_head", "box_predictor") if f".{h}." in name), None)
        for k in range(3) if head else ():
            state[name.replace(head, f"{head}.{k}")] = array[:4] if "bbox" in name else array
        if not head:
            state[name] = array
    source = sources.recognised(state, "the file")
    assert source is SOURCE["detectron2_vitdet_cascade"]
    config = ModelConfig()
    set_values(config, {**source.model, **source.layers(state)})
    config.validate()
    assert {name for entry in source.table(config) for name in entry.names} == set(state)


def test_a_convnext_is_read_from_a_file(tmp_path):
    """Whose stem says nothing about the width of a ResNet."""
    reference = Reference(VALUES / "backbone_timm_convnext.npz").meta["names_and_shapes"]
    state = {name: np.ones(shape, np.float32) for name, shape in reference}
    save_file(state, tmp_path / "convnext.safetensors")
    weights = convert.load(tmp_path / "convnext.safetensors")
    assert weights.kind == "timm_convnext"
    assert weights.model["backbone.convnext.channels"] == (8, 16, 24, 32)
    assert weights.model["backbone.width"] == 64
