"""The server over real connections: answers, batches, and what it refuses meanwhile."""

import io
import json
import socket
import threading
import time
from contextlib import contextmanager
from http.client import HTTPConnection

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tests.serve.model import Model
from tests.serve.running import running

pytest.importorskip("uvicorn")
pytest.importorskip("multipart")
app_module = pytest.importorskip("maskrcnn_jax.serve.app")

from maskrcnn_jax.serve.limits import Limits  # noqa: E402

SMALL = Limits(
    body_bytes=20_000, pixels=10_000, images=3, requests=4, upload_seconds=1.0, seconds=10.0
)


class Client:
    """A server on a port of its own, and requests to it."""

    def __init__(self, port: int):
        self.port = port

    def __call__(self, method="POST", path="/predict", body=None, headers=None):
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response, content

    def json(self, *arguments, **options):
        response, content = self(*arguments, **options)
        return response.status, json.loads(content)

    def raw(self, content: bytes) -> socket.socket:
        """Returns a connection over which this has been sent."""
        opened = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        opened.sendall(content)
        return opened


@contextmanager
def serving(model, limits=SMALL, **options):
    with running(app_module.make_app(model, limits, **options)) as port:
        yield Client(port)


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def client(model):
    with serving(model) as made:
        yield made


def png(brightness=0, shape=(10, 12)) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((*shape, 3), brightness, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def form(*files: bytes) -> tuple[bytes, dict]:
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="%d.png"\r\n\r\n%s\r\n'
        % (i, content)
        for i, content in enumerate(files)
    ]
    return b"".join([*parts, b"--x--\r\n"]), {"Content-Type": "multipart/form-data; boundary=x"}


def test_an_image(client):
    status, content = client.json(body=png(255))
    assert status == 200
    (image,) = content["images"]
    (found,) = image["detections"]  # the other one is below 0.5
    assert (image["height"], image["width"]) == (10, 12)
    assert (found["category_id"], found["class_name"]) == (18, "dog")
    assert found["bbox"] == [1.0, 2.0, 4.0, 5.0]
    assert found["score"] == pytest.approx(0.9)
    mask = coco_mask.decode(found["segmentation"])
    assert mask.shape == (10, 12)
    assert mask[2:7, 1:5].all()
    assert mask.sum() == 20


def test_the_lowest_score(client):
    _, content = client.json(path="/predict?min_score=0.2", body=png())
    assert len(content["images"][0]["detections"]) == 2


def test_several_images(client):
    body, headers = form(png(255), png(0, (8, 8)))
    status, content = client.json(body=body, headers=headers)
    assert status == 200
    assert [image["file_name"] for image in content["images"]] == ["0.png", "1.png"]
    assert [image["width"] for image in content["images"]] == [12, 8]
    names = [image["detections"][0]["class_name"] for image in content["images"]]
    assert names == ["dog", "cat"]


def test_a_picture(client):
    response, content = client(path="/predict?format=png", body=png())
    assert response.status == 200
    assert response.headers["Content-Type"] == "image/png"
    drawn = np.asarray(Image.open(io.BytesIO(content)))
    assert drawn.any()  # the image itself is black


def test_images_that_come_together_are_one_batch():
    model = Model(batch_size=4)
    with serving(model, wait=0.5) as client:
        answers = _together(client, 4)
    assert answers == [200] * 4
    assert sum(model.batches) == 4
    assert max(model.batches) > 1


def _together(client, number, body=None):
    statuses: list[int] = []

    def ask():
        statuses.append(client(body=body or png())[0].status)

    threads = [threading.Thread(target=ask) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return statuses


def test_more_than_it_can_do(model, client):
    model.free.clear()
    threads = [threading.Thread(target=client, kwargs={"body": png()}) for _ in range(4)]
    for thread in threads:
        thread.start()
    while b"in_work 4.0" not in client("GET", "/metrics")[1]:
        time.sleep(0.01)
    response, content = client(body=png())
    assert response.status == 503
    assert response.headers["Retry-After"] == "1"
    assert b"4 requests are in work" in content
    model.free.set()
    for thread in threads:
        thread.join(20)
    assert client(body=png())[0].status == 200


def test_an_answer_that_takes_too_long(model):
    limits = Limits(seconds=0.2)
    with serving(model, limits) as client:
        model.free.clear()
        status, content = client.json(body=png())
        model.free.set()
        assert status == 503
        assert "no answer within 0.2 s" in content["error"]
        assert client(body=png())[0].status == 200


def test_a_fault_within_the_detector_does_not_stop_it(model, client):
    detect, model.detect = model.detect, None
    with serving(model) as other:
        assert other(body=png())[0].status == 500
    model.detect = detect
    assert client(body=png())[0].status == 200


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/predict?min_score=2", "min_score='2'; give a number from 0 to 1"),
        ("/predict?min_score=nan", "min_score='nan'"),
        ("/predict?min_score=much", "min_score='much'"),
        ("/predict?format=xml", "format='xml'; give json or png"),
    ],
)
def test_queries_that_are_refused(client, path, message):
    status, content = client.json(path=path, body=png())
    assert status == 400
    assert message in content["error"]


def _bomb() -> bytes:
    """A PNG of 4 megapixels in 4 kB."""
    stream = io.BytesIO()
    Image.new("1", (2000, 2000)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "the body is empty"),
        (b"no image", 422, "is not a readable image"),
        (png()[:-30], 422, "image"),
        (_bomb(), 422, "more than the 10000"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 50, 422, "image"),
        (b"0" * 20_001, 413, "larger than 0.02 MB"),
    ],
)
def test_bodies_that_are_refused(client, body, status, message):
    given, content = client.json(body=body)
    assert given == status
    assert message in content["error"]
    assert client(body=png())[0].status == 200


def test_forms_that_are_refused(client):
    body, headers = form(*[png()] * 4)
    status, content = client.json(body=body, headers=headers)
    assert (status, "3" in content["error"]) == (400, True)
    body, headers = form()
    assert client.json(body=body, headers=headers)[0] == 400
    status, _ = client.json(body=b"x", headers={"Content-Type": "multipart/form-data"})
    assert status == 400
    body, headers = form(png(), png())
    assert client.json(path="/predict?format=png", body=body, headers=headers)[0] == 400
    packed = {"Content-Encoding": "gzip"}
    assert client.json(body=png(), headers=packed)[0] == 415


def test_too_many_bytes_without_a_length(client):
    """In chunks, so that nothing announces how many come."""
    chunks = (b"0" * 10_000 for _ in range(3))
    try:
        status, _ = client.json(body=chunks)
    except (BrokenPipeError, ConnectionResetError):  # it has hung up before all was sent
        return
    assert status == 413


def test_a_client_that_sends_slowly_is_left(client):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n1234"
    slow = [client.raw(head) for _ in range(3)]
    assert client(body=png())[0].status == 200  # meanwhile
    for connection in slow:
        assert b"408" in connection.recv(100)
        connection.close()


def test_clients_that_leave(model, client):
    """Whatever they have begun is not counted for ever."""
    model.free.clear()
    for length in (100, len(png())):
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length
        client.raw(head + png()[:length]).close()
    model.free.set()
    deadline = time.monotonic() + 20
    while b"in_work 0.0" not in client("GET", "/metrics")[1]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert client(body=png())[0].status == 200


def test_health_and_metrics(client):
    status, content = client.json("GET", "/health")
    assert (status, content) == (200, {"status": "ready", "classes": ["cat", "dog"]})
    client(body=png())
    client(body=b"x")
    text = client("GET", "/metrics")[1].decode()
    assert 'maskrcnn_requests_total{status="200"} 1.0' in text
    assert 'maskrcnn_requests_total{status="422"} 1.0' in text
    assert "maskrcnn_request_seconds_count 2.0" in text


def test_other_addresses(client):
    assert client("GET", "/predict")[0].status == 405
    assert client("GET", "/nothing")[0].status == 404
    assert b"curl" in client("GET", "/")[1]


def test_a_page(model, tmp_path):
    (tmp_path / "index.html").write_text("<title>page</title>")
    (tmp_path.parent / "secret").write_text("secret")
    with serving(model, page=tmp_path) as client:
        response, content = client("GET", "/")
        assert content == b"<title>page</title>"
        assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert client("GET", "/%2e%2e/secret")[0].status == 404
        assert client("GET", "/../secret")[0].status == 404
        assert client(body=png())[0].status == 200


def test_limits_above_nothing():
    with pytest.raises(ValueError, match="images is 0"):
        Limits(images=0)
