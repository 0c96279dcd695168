"""Two processes that each evaluate half of every batch find what one finds."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

from maskrcnn_jax.data import datasets
from maskrcnn_jax.evaluation.evaluate import evaluate
from maskrcnn_jax.evaluation.validation_loss import make_loss_step
from maskrcnn_jax.inference.predict_step import make_predict_step
from maskrcnn_jax.models.build import make_model
from maskrcnn_jax.parallel.config import MeshConfig
from maskrcnn_jax.parallel.mesh import make_mesh
from tests.end_to_end.tiny import get_config
from tests.inference.tiny_model import tiny_variables

ROOT = Path(__file__).resolve().parents[2]


def _detections(folder):
    entries = json.loads((folder / "detections.json").read_text())
    return sorted(entries, key=lambda entry: (entry["image_id"], -entry["score"]))


def test_two_processes_find_what_one_finds(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    (tmp_path / "two").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    program = [sys.executable, str(ROOT / "tests/evaluation/two_processes.py"), address]
    processes = [
        subprocess.Popen([*program, str(i), str(tmp_path / "two")], env=environment, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for i in range(2)
    ]  # fmt: skip
    for process in processes:
        output, _ = process.communicate(timeout=500)
        assert process.returncode == 0, output

    config = get_config()
    config.data.val.count = 5
    model = make_model(config.model, 3)
    loss_step = make_loss_step(model, make_mesh(MeshConfig(**{"data": 1})))
    dataset = datasets.load(config.data, "val")
    expected = evaluate(
        make_predict_step(model),
        tiny_variables(),
        dataset,
        config,
        tmp_path / "one",
        loss_step=loss_step,
    )
    for i in range(2):
        metrics = json.loads((tmp_path / "two" / f"metrics-{i}.json").read_text())
        assert metrics["images"] == 5
        assert metrics["segm/AP"] == expected["segm/AP"]
        names = [name for name in expected if name.startswith("loss_")]
        assert len(names) == 6
        for name in names:  # compiled for other devices, which may sum in another order
            np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-4, err_msg=name)
    found, wanted = _detections(tmp_path / "two"), _detections(tmp_path / "one")
    assert len(found) == len(wanted) > 0
    for key in ("image_id", "category_id"):
        assert [entry[key] for entry in found] == [entry[key] for entry in wanted]
    for key in ("score", "bbox"):
        np.testing.assert_allclose(
            [entry[key] for entry in found], [entry[key] for entry in wanted], atol=1e-3
        )
