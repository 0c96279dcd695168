"""docs/change_a_stage.md: its changes apply to the sources of today, and do what it says."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "change_a_stage.md"
CHECK = """
import json
import jax, jax.numpy as jnp
from maskrcnn_jax.models.losses import dice_loss
from maskrcnn_jax.models.mask_rcnn import MaskRCNN
from tests.end_to_end.tiny import get_config
from maskrcnn_jax.models.build import initial_variables, make_model

model = make_model(get_config().model, 1)
row = jnp.arange(16.0)[None, None, :, None]
pyramid = {f"p{level}": jnp.broadcast_to(row, (1, 16, 16, 1)) for level in range(2, 6)}
box = jnp.array([[[0.0, 0.0, 32.0, 32.0]]])  # 2 x 2 cells of p4, pooled to 2 x 2 bins
pooled = model.bind({}).pool(pyramid, box, 2)[0, 0, 0, :, 0]

def losses(variables):
    boxes = jnp.array([[[4.0, 4.0, 40.0, 44.0]]])
    batch = dict(image=jnp.zeros((1, 64, 64, 3), jnp.uint8), image_size=jnp.full((1, 2), 64.0))
    batch |= dict(gt_boxes=boxes, gt_classes=jnp.ones((1, 1), int), image_valid=jnp.ones(1, bool))
    batch |= dict(gt_masks=jnp.ones((1, 1, 28, 28), jnp.uint8), gt_crowd=jnp.zeros((1, 1), bool))
    batch |= dict(gt_valid=jnp.ones((1, 1), bool))
    return model.apply(variables, batch, jax.random.key(0), False, method="losses")[0]

variables = initial_variables(model, jax.random.key(0))
losses = {name: float(loss) for name, loss in jax.jit(losses)(variables).items()}

logits = jnp.array([[[[50.0, -50.0]], [[0.0, jnp.nan]]]])  # the second slot holds no RoI
targets = jnp.array([[[[1.0, 1.0]], [[1.0, 1.0]]]])
loss = dice_loss(logits, targets, jnp.array([[True, False]]))
print(json.dumps([pooled.tolist(), float(loss), losses]))
"""


def _changes() -> list[tuple[str, str, str]]:
    """Returns the file of each change of the page, and its text before and after."""
    changes = []
    for block in re.findall(r"```diff\n--- (.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        file, *lines = block.splitlines()
        before, after = (
            "\n".join(line[1:] for line in lines if line[:1] in (kind, " ", "")) for kind in "-+"
        )
        changes.append((file, before, after))
    return changes


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """A copy of the repository's sources with the changes of the page."""
    folder = tmp_path_factory.mktemp("changed")
    for name in ("maskrcnn_jax", "configs", "tests/end_to_end"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "train.py", folder)
    for file, before, after in _changes():
        text = (folder / file).read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{PAGE.name}: {file} has no such lines:\n{before}"
        (folder / file).write_text(text.replace(before, after), encoding="utf-8")
    return folder


def _run(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(folder)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_counts_its_lines():
    added = [set(after.splitlines()) - set(before.splitlines()) for _, before, after in _changes()]
    assert sum(len([line for line in lines if line.strip()]) for lines in added) == 9
    assert "nine new lines" in PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found(changed):
    """What the program above prints there: pooled values, a loss, and all losses of an image."""
    return json.loads(_run(changed, "-c", CHECK).splitlines()[-1])


def test_the_changed_stages_by_hand(found):
    """A map whose value is its column: of samples at 0.25 and 0.75, 1.25 and 1.75 the larger ones.

    Dice: 2 * 1 + 1 over 1 + 2 + 1, so the loss is a quarter.
    """
    pooled, loss, _ = found
    assert pooled == [0.75, 1.75]
    assert loss == pytest.approx(0.25)


def test_the_changed_detector_has_the_new_loss_in_its_sum(found):
    _check_losses(found[2])


@pytest.mark.slow
def test_the_changed_detector_trains(changed):
    cache = f"--compilation_cache={jax.config.jax_compilation_cache_dir}"
    recipe = ("--config=tests/end_to_end/tiny.py", "--config.train.steps=1", "--workdir=run")
    _run(changed, "train.py", *recipe, cache)
    rows = [json.loads(line) for line in (changed / "run/metrics.jsonl").read_text().splitlines()]
    (row,) = (row for row in rows if row["kind"] == "train")
    _check_losses(row)


def _check_losses(row):
    names = [name for name in row if name.startswith("loss_") and name != "loss_total"]
    assert row["loss_dice"] > 0
    assert row["loss_total"] == pytest.approx(sum(row[name] for name in names), rel=1e-5)
