"""The command as a process: a real model, its limits and how it stops."""

import io
import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from maskrcnn_jax.checkpoints import weights_folder
from maskrcnn_jax.cli import serve as command
from maskrcnn_jax.config_json import to_json
from maskrcnn_jax.inference.load import load
from maskrcnn_jax.models.build import initial_variables, make_model
from tests.end_to_end.tiny import get_config

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    config = get_config()
    variables = initial_variables(make_model(config.model, 3), jax.random.key(0))
    folder = tmp_path_factory.mktemp("source") / "model"
    metadata = {
        "config": to_json(config),
        "class_names": ("circle", "rectangle", "triangle"),
        "category_ids": (10, 20, 30),
    }
    weights_folder.write(folder, variables, metadata)
    return folder


def test_from_a_model_to_its_end(source):
    started = [sys.executable, "-m", "maskrcnn_jax.serve", str(source), "--port=0"]
    started += [f"--compilation_cache={jax.config.jax_compilation_cache_dir}"]
    with subprocess.Popen(started, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            address = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+)\n", line)[1]
            image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "PNG")
            request = urllib.request.Request(
                f"{address}/predict?min_score=0", stream.getvalue(), {"Content-Type": "image/png"}
            )
            with urllib.request.urlopen(request, timeout=60) as response:
                (told,) = json.load(response)["images"]
            process.send_signal(signal.SIGTERM)
            assert process.stdout.read() == "stopped\n"
            assert process.wait(60) == 0
        finally:
            process.kill()
    result = load(source)(image)
    assert len(told["detections"]) == len(result) > 0
    np.testing.assert_allclose(
        [found["score"] for found in told["detections"]], result.scores, atol=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port=70000",), "cannot listen on --host=127.0.0.1 --port=70000"),
        (("--host=nowhere.invalid",), "cannot listen on --host=nowhere.invalid"),
        (("--max_images=0",), "images is 0; it must be above 0"),
        (("--batch_size=0",), "batch_size is 0"),
        (("--page=.",), "has no index.html"),
        (("--checkpoint=best",), "leave checkpoint 'best' out"),
    ],
)
def test_refused_in_one_line(source, capsys, arguments, message):
    assert command.main([str(source), "--port=0", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
