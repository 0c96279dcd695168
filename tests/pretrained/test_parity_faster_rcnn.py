"""Boxes alone against torchvision's Faster R-CNN, with the same weights; see the tests imported.

What comes before the proposals is Mask R-CNN's, which `test_parity_torchvision.py` compares.
"""

import jax
import pytest

from maskrcnn_jax.pretrained.convert import load
from tests.parity.reference import Reference
from tests.pretrained.narrow import write
from tests.pretrained.test_parity_torchvision import (  # noqa: F401  tests, of the fixture below
    Case,
    test_counts_and_rois,
    test_detections,
    test_gradient_norms,
    test_gradients,
    test_import_and_export_are_inverse,
    test_losses,
    test_weights_are_those_of_the_fixture,
)


@pytest.fixture(
    scope="module", params=["frcnn_v1", pytest.param("frcnn_v2", marks=pytest.mark.slow)]
)
def case(request, parity_dir):
    with jax.default_matmul_precision("float32"):
        yield Case(Reference(parity_dir / f"{request.param}.npz"))


@pytest.fixture
def part():
    """Their files have no training with the statistics of a batch."""
    return "train"


def test_nothing_is_of_masks(case):
    detections, stages = case.predicted
    assert detections.masks is None
    assert not any(name.startswith("mask") for name in {**stages, **case.variables["params"]})


def test_a_file_without_a_mask_head_is_read_as_boxes_alone(case, tmp_path):
    weights = load(write(tmp_path / "faster.safetensors", case.state))
    assert weights.kind == f"torchvision_{case.meta['arch']}"
    assert weights.settings["masks"] is False
    assert "mask_head" not in weights.variables["params"]
