"""The function for CVAT: called as Nuclio calls it, with a server behind."""

import base64
import json
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.examples.test_label_studio import example, png
from tests.serve.model import Model
from tests.serve.running import running

pytest.importorskip("uvicorn")
app_module = pytest.importorskip("maskrcnn_jax.serve.app")


@pytest.fixture
def call(monkeypatch):
    """A function that handles one event."""
    function = example("cvat/main.py")
    with running(app_module.make_app(Model(), app_module.Limits())) as port:
        monkeypatch.setenv("SERVER", f"http://127.0.0.1:{port}/")
        context = SimpleNamespace(user_data=SimpleNamespace(), Response=SimpleNamespace)
        function.init_context(context)

        def call(body):
            response = function.handler(context, SimpleNamespace(body=body))
            return response.status_code, json.loads(response.body)

        yield call


def test_masks(call):
    image = base64.b64encode(png()).decode()
    for body in (
        {"image": image, "threshold": 0.2},
        json.dumps({"image": image, "threshold": 0.2}),
    ):
        status, shapes = call(body)
        assert status == 200
        assert len(shapes) == 2
        assert (shapes[0]["label"], shapes[0]["type"]) == ("cat", "mask")
        assert float(shapes[0]["confidence"]) == pytest.approx(0.9)
        *values, left, top, right, bottom = shapes[0]["mask"]
        assert (left, top, right, bottom) == (1, 2, 4, 6)
        assert values == [1] * 20
        points = np.array(shapes[0]["points"]).reshape(-1, 2)
        assert points.min(0).tolist() == [1, 2]
        assert points.max(0).tolist() == [4, 6]


@pytest.mark.parametrize("shape", [(4, 0), (4, 1), (2, 2)])
def test_an_outline_that_is_no_polygon(shape):
    mask = np.zeros((6, 8), np.uint8, order="F")
    mask[: shape[0], : shape[1]] = 1
    segmentation = coco_mask.encode(mask)
    found = {"segmentation": segmentation, "score": 0.9, "class_name": "cat"}
    made = example("cvat/main.py")._shape(found)
    assert (made is not None) == (shape == (2, 2))


def test_what_is_no_image(call):
    status, told = call({"image": base64.b64encode(b"x").decode()})
    assert status == 422
    assert "not a readable image" in told["error"]
