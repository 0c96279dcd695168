"""The backend for Label Studio: the requests that it sends, over HTTP, with a server behind."""

import io
import json
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from tests.serve.model import Model
from tests.serve.running import running

pytest.importorskip("uvicorn")
pytest.importorskip("httpx")
app_module = pytest.importorskip("maskrcnn_jax.serve.app")

CONFIG = """<View><Image name="img" value="$picture"/>
<PolygonLabels name="tag" toName="img"><Label value="cat"/></PolygonLabels></View>"""


def example(path: str):
    """Returns the module of an example."""
    file = Path(__file__).parents[2] / "examples" / path
    spec = spec_from_file_location(file.stem, file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def png(shape=(20, 40)) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


class _LabelStudio(BaseHTTPRequestHandler):
    """Gives an upload to whoever has the key."""

    def do_GET(self):
        is_allowed = self.headers.get("Authorization") == "Token key"
        self.send_response(200 if is_allowed else 401)
        self.end_headers()
        self.wfile.write(png() if is_allowed else b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def ask(monkeypatch):
    """A function that sends a request to the backend, with a server and Label Studio running."""
    app = app_module.make_app(Model(), app_module.Limits())
    backend = example("label_studio/backend.py")
    with (
        running(app) as server,
        running(backend.app) as port,
        ThreadingHTTPServer(("127.0.0.1", 0), _LabelStudio) as studio,
    ):
        Thread(target=studio.serve_forever, daemon=True).start()
        monkeypatch.setenv("SERVER", f"http://127.0.0.1:{server}")
        monkeypatch.setenv("LABEL_STUDIO_URL", f"http://127.0.0.1:{studio.server_address[1]}")
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", "key")

        def ask(path, given=None):
            connection = HTTPConnection("127.0.0.1", port, timeout=20)
            content = json.dumps(given) if given is not None else None
            connection.request("GET" if given is None else "POST", path, content)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

        yield ask
        studio.shutdown()


def _tasks(*places):
    tasks = [{"id": i, "data": {"picture": place}} for i, place in enumerate(places)]
    return {"tasks": tasks, "label_config": CONFIG, "project": "1.17", "params": {"context": None}}


def test_connecting(ask):
    assert ask("/health") == (200, {"status": "UP", "model_class": "maskrcnn_jax"})
    status, told = ask("/setup", {"project": "1.17", "schema": CONFIG})
    assert (status, told["model_version"]) == (200, "maskrcnn_jax")


def test_polygons_of_a_task(ask):
    status, told = ask("/predict", _tasks("/data/upload/1/a.png", "/data/upload/1/b.png"))
    assert status == 200
    assert len(told["results"]) == 2
    (region,) = told["results"][0]["result"]
    assert (region["from_name"], region["to_name"]) == ("tag", "img")
    assert (region["original_width"], region["original_height"]) == (40, 20)
    assert region["value"]["polygonlabels"] == ["cat"]
    assert region["score"] == pytest.approx(0.9)
    points = np.array(region["value"]["points"])
    # The mask fills rows 2 to 6 and columns 1 to 4 of 20 x 40.
    assert points.min(0).tolist() == [100 * 1.5 / 40, 100 * 2.5 / 20]
    assert points.max(0).tolist() == [100 * 4.5 / 40, 100 * 6.5 / 20]


def test_a_host_that_nobody_allowed(ask):
    status, told = ask("/predict", _tasks("http://169.254.169.254/latest/meta-data"))
    assert status == 502
    assert "169.254.169.254' are not fetched" in told["error"]


@pytest.mark.parametrize(
    "config", ["<View/>", "", "<View>", '<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>']
)
def test_an_interface_that_does_not_fit(ask, config):
    status, told = ask("/predict", _tasks("a.png") | {"label_config": config})
    assert status == 400
    assert "label_config" in told["error"]
