"""eval.py and predict.py as a user starts them, on the checkpoint of an untrained model.

The longest runs are without TensorFlow, which they need not have.
"""

import json
import os
import shutil

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.checkpoints.state import TrainState
from maskrcnn_jax.data import datasets
from tests.end_to_end.tiny import get_config
from tests.forked import NO_TENSORFLOW
from tests.inference.tiny_model import CLASS_NAMES, tiny_variables


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run's folder with one checkpoint, of step 3."""
    folder = tmp_path_factory.mktemp("run")
    metadata = {
        "config": get_config(),
        "class_names": CLASS_NAMES,
        "category_ids": (1, 2, 3),
    }
    checkpoints = Checkpoints(folder, 1, metadata)
    variables = jax.tree.map(jnp.asarray, tiny_variables())
    checkpoints.save(TrainState(step=jnp.int32(3), opt_state={}, **variables), 3, {})
    checkpoints.close()
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with two images, a broken one, and a file that is none."""
    folder = tmp_path_factory.mktemp("images")
    dataset = datasets.load(get_config().data, "val")
    for record, name in zip(dataset.records[:2], ("a.png", "b.JPG"), strict=False):
        image = cv2.resize(dataset.read_image(record), (100, 80))
        cv2.imwrite(str(folder / name), image[..., ::-1])
    (folder / "broken.jpg").write_bytes((folder / "a.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("no image")
    return folder


def test_predict(run_command, workdir, images, tmp_path):
    out = tmp_path / "out"
    arguments = (str(images), str(images / "a.png"), f"--out={out}", "--min_score=0.1", "--stages")
    command = ("predict.py", f"--workdir={workdir}", *arguments)
    code, _, stderr = run_command(*command, prelude=NO_TENSORFLOW)
    assert code == 1, stderr
    assert "skipped" in stderr
    assert "broken.jpg" in stderr
    assert "1 of 4 inputs could not be read" in stderr
    assert "passed over: 1 neither image nor video (notes.txt)" in stderr

    pictures = {path.name for path in out.glob("*.png")}
    assert pictures == {"a.png", "a_2.png"}
    for name in ("a.png", "b.JPG"):
        assert cv2.imread(str(out / name)).shape == (80, 100, 3)
    assert len(list((out / "stages" / "b").glob("*.png"))) == 5

    entries = json.loads((out / "predictions.json").read_text())
    assert {entry["file_name"] for entry in entries} == {
        str(images / n) for n in ("a.png", "b.JPG")
    }
    assert {entry["image_id"] for entry in entries} == {1, 2, 4}
    first = [entry["bbox"] for entry in entries if entry["image_id"] == 1]
    assert first == [entry["bbox"] for entry in entries if entry["image_id"] == 4]
    assert all(entry["score"] >= 0.1 and entry["category_id"] in (1, 2, 3) for entry in entries)
    assert coco_mask.decode(entries[0]["segmentation"]).shape == (80, 100)


def test_predict_says_what_is_missing(run_command, workdir, images, tmp_path):
    code, _, stderr = run_command("predict.py", f"--workdir={workdir}", str(tmp_path))
    assert code == 2
    assert stderr.startswith(f"error: no images found in {tmp_path}")
    code, _, stderr = run_command("predict.py", f"--workdir={tmp_path / 'x'}", str(images))
    assert code == 2
    assert str(tmp_path / "x") in stderr
    assert "Traceback" not in stderr


def test_predict_takes_files_of_any_name(run_command, workdir, images, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    content = (images / "a.png").read_bytes()
    names = [b"0.png", b"\xc6\xac\xb5.png", b"\x1b[2J.png", "片".encode() * 83 + b".png"]
    for name in names:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(content)
    (folder / "._0.png").write_bytes(b"\0\5\x16\7")
    (folder / "folder.png").mkdir()
    arguments = f"--workdir={workdir}", str(folder), f"--out={tmp_path / 'out'}"
    code, stdout, stderr = run_command("predict.py", *arguments)
    assert code == 0, stderr
    assert stdout.count(" objects -> ") == 4
    assert "\x1b" not in stdout + stderr
    assert r"\x1b[2J.png" in stdout
    assert len(list((tmp_path / "out").glob("*.png"))) == 4


def test_predict_does_not_overwrite_its_input(run_command, workdir, images, tmp_path):
    shutil.copy(images / "a.png", tmp_path)
    before = (tmp_path / "a.png").read_bytes()
    arguments = (str(tmp_path / "a.png"), f"--out={tmp_path}")
    code, _, stderr = run_command("predict.py", f"--workdir={workdir}", *arguments)
    assert code == 2
    assert f"--out={tmp_path}" in stderr
    assert (tmp_path / "a.png").read_bytes() == before


def test_eval_takes_the_checkpoints_configuration_and_changes_to_it(run_command, workdir):
    changes = ("--config.data.val.count=3", "--config.eval.pictures=2", "--config.data.engine=auto")
    command = ("eval.py", f"--workdir={workdir}", *changes)
    code, stdout, stderr = run_command(*command, prelude=NO_TENSORFLOW)
    assert code == 0, stderr
    out = workdir / "eval"
    assert (out / "report.txt").read_text() in stdout
    assert f"step 3; written to {out}" in stdout
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["images"] == 3
    assert metrics["segm/AP"] >= 0
    detections = json.loads((out / "detections.json").read_text())
    assert np.unique([entry["image_id"] for entry in detections]).size == 3
    assert len(list((out / "pictures").glob("*.png"))) == 2


def test_eval_says_what_is_wrong(run_command, workdir):
    code, _, stderr = run_command("eval.py", f"--workdir={workdir}", "--config.eval.batchsize=3")
    assert code == 2
    assert "no key config.eval.batchsize; did you mean config.eval.batch_size?" in stderr
    recipe = "--config=configs/shapes.py"  # another network, other images
    code, _, stderr = run_command("eval.py", f"--workdir={workdir}", recipe)
    assert code == 2
    assert "Traceback" not in stderr
    assert "model.backbone.width: 8 -> 32" in stderr
    assert "Leave --config out" in stderr


def test_eval_takes_a_recipe_of_the_same_model(run_command, workdir):
    """And a key with a flag of its own; the run ends at the next fault."""
    changes = ("--config=tests/end_to_end/tiny.py", "--config.model.roi.aligned=True")
    nowhere = "--config.data.format=nowhere"
    code, _, stderr = run_command("eval.py", f"--workdir={workdir}", *changes, nowhere)
    assert code == 2
    assert "nowhere" in stderr
