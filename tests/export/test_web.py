"""The page: its functions against Python's, its folder, and (slow) itself in a browser."""

import base64
import json
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from maskrcnn_jax.cli import export as command
from maskrcnn_jax.export.web import site
from maskrcnn_jax.images.paste import paste_mask
from maskrcnn_jax.images.sizes import choose_bucket, resized_size
from maskrcnn_jax.inference.predictor import Predictor
from tests.export import browser
from tests.export.nets import SHAPE, detector

PAGE = site._PAGE
BUCKETS = [[800, 1088], [1088, 800], [800, 1344], [1344, 800]]
_SCRIPT = """
const page = await import(process.argv[1]);
const text = await new Promise((done) => {
  let all = ""; process.stdin.on("data", (part) => all += part).on("end", () => done(all)); });
const {sizes, rules, buckets, pictures, masks} = JSON.parse(text);
const bytes = (content) => new Uint8Array(Buffer.from(content, "base64"));
console.log(JSON.stringify({
  sizes: rules.map((rule) => sizes.map(([height, width]) => {
    const size = page.resizedSize(height, width, rule, buckets);
    return [...size, page.chooseBucket(size, buckets)];
  })),
  pictures: pictures.map(({content, from, to}) =>
    Buffer.from(page.resize(bytes(content), ...from, ...to)).toString("base64")),
  masks: masks.map(({grid, side, box, height, width}) => {
    const inside = [];
    page.paste(grid, side, box, height, width, (x, y) => inside.push([y, x]));
    return inside;
  }),
}));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_what_the_page_computes_is_what_python_does(tmp_path):
    rng = np.random.default_rng(0)
    made = detector("torchvision_v1").image_config
    made.buckets = tuple(map(tuple, BUCKETS))
    rules = [
        {"rule": rule, "short_side": 800, "long_side": 1333} for rule in ("short_side", "square")
    ]
    sizes = [*rng.integers(1, 3000, (200, 2)).tolist(), [480, 640], [640, 480], [1, 5000]]
    shapes = [((48, 64), (80, 107)), ((97, 33), (32, 11)), ((7, 5), (64, 45)), ((9, 9), (9, 9))]
    pictures = [rng.integers(0, 256, (*shape, 4), np.uint8) for shape, _ in shapes]
    grids = [rng.random((28, 28), np.float32) for _ in range(5)]
    boxes = [
        [3.2, 4.7, 60.5, 40.1],
        [-9, 2, 30, 90],
        [5, 5, 5.5, 5.5],
        [0, 0, 70, 50],
        [60, 40, 90, 80],
    ]
    given = {
        "sizes": sizes,
        "rules": rules,
        "buckets": BUCKETS,
        "pictures": [
            {"content": base64.b64encode(picture).decode(), "from": shape, "to": new}
            for picture, (shape, new) in zip(pictures, shapes, strict=True)
        ],
        "masks": [
            {"grid": grid.ravel().tolist(), "side": 28, "box": box, "height": 50, "width": 70}
            for grid, box in zip(grids, boxes, strict=True)
        ],
    }
    shutil.copyfile(PAGE / "detector.js", tmp_path / "detector.mjs")
    (tmp_path / "script.mjs").write_text(_SCRIPT.replace("process.argv[1]", '"./detector.mjs"'))
    done = subprocess.run(
        ["node", "script.mjs"],
        cwd=tmp_path, input=json.dumps(given), capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)

    for rule, found in zip(rules, told["sizes"], strict=True):
        made.resize = rule["rule"]
        wanted = [resized_size(*size, made) for size in sizes]
        assert found == [[*size, choose_bucket(*size, made.buckets)] for size in wanted]
    for picture, (_, new), content in zip(pictures, shapes, told["pictures"], strict=True):
        wanted = cv2.resize(picture[..., :3].copy(), new[::-1], interpolation=cv2.INTER_LINEAR)
        assert base64.b64decode(content) == wanted.tobytes()
    for grid, box, inside in zip(grids, boxes, told["masks"], strict=True):
        probability = paste_mask(grid, np.float32(box), 50, 70, "exact")
        painted = np.zeros((50, 70), bool)
        painted[tuple(np.array(inside, int).reshape(-1, 2).T)] = True
        assert not (painted & (probability < 0.5 - 1e-5)).any()
        assert not (~painted & (probability > 0.5 + 1e-5)).any()


@pytest.fixture
def runtime(tmp_path):
    """Files with the names of onnxruntime-web's."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    for name in site.RUNTIME:
        (folder / name).write_text(name)
    return folder


DESCRIBED = {
    "class_names": ["cat"],
    "license": "MIT",
    "resize": {"rule": "square"},
    "score_threshold": 0.05,
    "versions": {},
    "bits": 8,
    "normalize": "depth",
    "pixel_mean": [0, 0, 0],
    "pixel_std": [1, 1, 1],
}


def test_the_folder(runtime, tmp_path):
    models = [(DESCRIBED | {"bucket": [32, 64]}, b"a"), (DESCRIBED | {"bucket": [64, 32]}, b"bb")]
    size = site.write(tmp_path / "site", models, runtime)
    files = {p.relative_to(tmp_path / "site").as_posix() for p in (tmp_path / "site").rglob("*.*")}
    assert files == {
        "index.html",
        "detector.js",
        "model.json",
        "model_32x64.onnx",
        "model_64x32.onnx",
        *(f"runtime/{name}" for name in site.RUNTIME),
    }
    told = json.loads((tmp_path / "site" / "model.json").read_text())
    assert [model["bucket"] for model in told["models"]] == [[32, 64], [64, 32]]
    assert told["class_names"] == ["cat"]
    everything = sum((tmp_path / "site" / name).stat().st_size for name in files)
    assert size == everything - 2  # without the second model


def test_a_runtime_that_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"has no ort\.wasm"):
        site.write(tmp_path / "site", [(DESCRIBED | {"bucket": [32, 32]}, b"")], tmp_path)
    packed = tmp_path / "x.tgz"
    packed.write_bytes(b"x")
    with pytest.raises(ValueError, match="is not the package onnxruntime-web"):
        site.write(tmp_path / "site", [(DESCRIBED | {"bucket": [32, 32]}, b"")], packed)


def test_npm_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="Where npm is not at hand"):
        site.write(tmp_path / "site", [(DESCRIBED | {"bucket": [32, 32]}, b"")])


def test_pictures_that_no_browser_has():
    with pytest.raises(ValueError, match="takes 5 channels of 16 bits"):
        site.check_usable(DESCRIBED | {"bits": 16, "pixel_mean": [0] * 5})
    with pytest.raises(ValueError, match="normalize is 'percentile'"):
        site.check_usable(DESCRIBED | {"normalize": "percentile"})


@pytest.mark.slow  # fetches onnxruntime-web
@pytest.mark.skipif(browser.CHROMIUM is None, reason="Chromium is not installed")
def test_in_a_browser(tmp_path):
    """Three pictures, of which two are resized: what Python finds, with nothing sent."""
    pytest.importorskip("playwright")
    from maskrcnn_jax.checkpoints import weights_folder

    made = detector("torchvision_v1")
    weights_folder.write(tmp_path / "model", made.variables, made.metadata)
    folder = tmp_path / "site"
    assert command.main([str(tmp_path / "model"), "--format=web", f"--out={folder}"]) == 0
    predictor, rng = Predictor(made.variables, made.metadata), np.random.default_rng(1)
    with browser.served(folder) as address, browser.opened(address) as page:
        for shape in (SHAPE, (100, 80), (33, 90)):
            picture = cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), shape[::-1])
            content = cv2.imencode(".png", picture)[1].tobytes()
            found, _ = browser.found(page, base64.b64encode(content).decode())
            wanted = predictor(picture[..., ::-1].copy())
            assert len(wanted) > 0
            assert [each["name"] for each in found] == list(wanted.class_names)
            boxes = np.array([each["box"] for each in found])
            np.testing.assert_allclose(boxes, wanted.boxes, atol=1e-2)
            scores = np.array([each["score"] for each in found])
            np.testing.assert_allclose(scores, wanted.scores, atol=1e-4)
        assert {method for method, _ in page.requests} == {"GET"}
        assert all(url.startswith((address, "blob:")) for _, url in page.requests)
