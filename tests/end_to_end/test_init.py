"""`train.py --config.init=...`: a run that starts from another one's weights."""

import json
import shutil

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.checkpoints.load import load_for_inference
from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.checkpoints.resume import metadata_to_resume
from maskrcnn_jax.checkpoints.state import TrainState
from maskrcnn_jax.models.build import initial_variables, make_model
from tests.end_to_end.tiny import get_config
from tests.inference.tiny_model import CLASS_NAMES

SECOND = (
    "train.py",
    "--config=tests/end_to_end/tiny_folders.py",
    "--config.data.train.class_name=Circle",
    "--config.data.val.class_name=Circle",
    "--config.train.checkpoint_every=1",
    "--config.train.keep_checkpoints=9",
    "--config.train.layers=heads:2, all",
)


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    """Four images with one bright disc each, as folders of masks."""
    root = tmp_path_factory.mktemp("discs")
    for i in range(4):
        for kind in ("images", "masks"):
            (root / f"{i}" / kind).mkdir(parents=True)
        mask = cv2.circle(np.zeros((64, 64), np.uint8), (20 + 6 * i, 30), 12, 255, -1)
        cv2.imwrite(str(root / f"{i}" / "masks" / "0.png"), mask)
        cv2.imwrite(str(root / f"{i}" / "images" / "0.png"), np.maximum(mask, 40))
    return root


@pytest.fixture(scope="module")
def runs(run_command, discs, tmp_path_factory):
    """A run, one that starts from it, and how the second resumes after the first is gone."""
    folder = tmp_path_factory.mktemp("runs")
    first, second = folder / "first", folder / "second"
    _save_run(first)
    weights, _ = load_for_inference(first)

    data = (f"--config.data.train.folder={discs}", f"--config.data.val.folder={discs}")
    command = (*SECOND, *data, f"--config.init={first}")
    began = run_command(*command, "--config.train.steps=2", f"--workdir={second}")
    shutil.rmtree(first)
    resumed = run_command(*command, "--config.train.steps=4", f"--workdir={second}")
    return first, weights, second, began, resumed


def _save_run(folder):
    """A work directory of step 2, with other layers than the recipe of the second run has."""
    config = get_config()
    config.model.fpn.channels, config.model.pixel.order = 24, "bgr"
    variables = initial_variables(make_model(config.model, len(CLASS_NAMES)), jax.random.key(0))
    metadata = dict(config=config, class_names=CLASS_NAMES, category_ids=(1, 2, 3))
    checkpoints = Checkpoints(folder, 1, metadata)
    checkpoints.save(TrainState(step=jnp.int32(2), opt_state={}, **variables), 2, {})
    checkpoints.close()


def test_the_second_run_says_what_it_took(runs):
    first, _, _, (status, out, err), _ = runs
    assert status == 0, err
    for part in (
        "model.fpn.channels: 16 -> 24, as the weights need",
        "model.pixel.order: 'rgb' -> 'bgr', as the weights need",
        f"starting from {first}, step 2 (maskrcnn_jax detector, sha256 ",
        "taken: backbone, fpn, rpn, box_head, mask_head",
        "classes kept: 1 of 1: Circle",
    ):
        assert part in out


def test_it_starts_with_the_weights_and_trains_the_heads_first(runs):
    """One step at a small rate moves no parameter far; new ones would be elsewhere."""
    _, weights, second, *_ = runs
    before, after = (tree["params"] for tree in (weights, load_for_inference(second, 1)[0]))
    np.testing.assert_equal(_arrays(after["backbone"]), _arrays(before["backbone"]))
    for part, layer in (("fpn", "output_p3"), ("rpn", "conv_0")):
        old = np.asarray(_first_kernel(before[part][layer]))
        new = np.asarray(_first_kernel(after[part][layer]))
        np.testing.assert_allclose(new, old, atol=0.05 * np.abs(old).max())
    rows = np.asarray(before["box_head"]["class_logits"]["kernel"])[:, :2]  # background, circle
    kept = np.asarray(after["box_head"]["class_logits"]["kernel"])
    np.testing.assert_allclose(kept, rows, atol=0.05 * np.abs(rows).max())


def _first_kernel(layer):
    while "kernel" not in layer:
        layer = layer[min(layer)]
    return layer["kernel"]


def test_it_goes_on_when_the_first_is_gone(runs):
    first, weights, second, _, (status, out, err) = runs
    assert not first.exists()
    assert status == 0, err
    assert "resuming from step 2" in out
    assert "step 2: what is trained changes to all" in out
    assert "without effect" not in out
    metadata = metadata_to_resume(second)
    assert metadata["step"] == 4
    assert metadata["class_names"] == ("Circle",)
    assert metadata["init"]["from"] == metadata["config"]["init"] == str(first)
    assert metadata["config"]["model"]["fpn"]["channels"] == 24
    assert json.loads((second / "config.json").read_text())["model"]["fpn"]["channels"] == 24
    kernels = [
        np.asarray(tree["params"]["backbone"]["stem"]["conv"]["kernel"])
        for tree in (weights, load_for_inference(second, 2)[0], load_for_inference(second, 4)[0])
    ]
    np.testing.assert_array_equal(kernels[1], kernels[0])
    assert (kernels[2] != kernels[1]).any()


def _arrays(tree):
    return {k: _arrays(v) for k, v in tree.items()} if isinstance(tree, dict) else np.asarray(tree)


def test_mistakes_end_in_one_line_and_write_nothing(run_command, tmp_path):
    for init, fault in (
        (tmp_path / "nowhere", "there is no file or folder"),
        ("last", "there is no checkpoint in"),
    ):
        workdir = tmp_path / "run"
        start = (f"--config.init={init}", f"--workdir={workdir}")
        status, _, err = run_command("train.py", "--config=tests/end_to_end/tiny.py", *start)
        assert status == 2
        (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
        assert fault in line
        assert "Traceback" not in err
        assert not workdir.exists()
