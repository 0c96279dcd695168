"""Downloads from a server on this machine: what is kept, what is refused, what is said."""

import hashlib
import re
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from maskrcnn_jax.compilation import ENVIRONMENT
from maskrcnn_jax.pretrained import sources
from maskrcnn_jax.pretrained.files import downloads
from maskrcnn_jax.pretrained.files.downloads import fetch
from maskrcnn_jax.pretrained.files.published import NAMES, Published

CONTENT = bytes(range(256)) * 10_000  # more than two chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """Gives CONTENT; of /cut/ the first half, of /missing/ nothing."""

    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path.startswith("/missing/"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        is_cut = self.path.startswith("/cut/")
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if is_cut else CONTENT)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.requests = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    return tmp_path / "weights"


@pytest.fixture
def publish(server, monkeypatch):
    """Gives a function that puts a file of the server into the table, under the name `x`."""

    def add(digest, path="/files/weights.bin", size=None):
        url = f"http://127.0.0.1:{server.server_port}{path}"
        monkeypatch.setitem(NAMES, "x", Published("kind", url, digest, size))

    return add


@pytest.mark.parametrize(
    "digest", [("sha256", SHA256), ("sha256", SHA256[:8]), ("md5", MD5), ("md5", MD5[:6])]
)
def test_a_file_is_downloaded_once(publish, server, cache, digest):
    publish(digest, size=len(CONTENT))
    lines = []
    assert fetch("x", lines.append) == cache / "weights.bin"
    assert (cache / "weights.bin").read_bytes() == CONTENT
    assert SHA256 in lines[-1]  # also where the publisher has another digest
    assert fetch("x", lines.append) == cache / "weights.bin"
    assert len(server.requests) == 1
    assert [path.name for path in cache.iterdir()] == ["weights.bin"]


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_file_with_another_digest_is_not_kept(publish, cache, algorithm):
    publish((algorithm, "0123abcd"))
    with pytest.raises(ValueError, match="It was not kept") as error:
        fetch("x")
    assert "begins with 0123abcd" in str(error.value)
    assert (SHA256 if algorithm == "sha256" else MD5) in str(error.value)
    assert list(cache.iterdir()) == []


def test_a_file_that_is_cut_off_is_not_kept(publish, cache):
    publish(("sha256", SHA256), path="/cut/weights.bin")
    half = len(CONTENT) // 2
    with pytest.raises(OSError, match=f"ended after {half} of {len(CONTENT)} bytes"):
        fetch("x")
    assert list(cache.iterdir()) == []


def test_a_file_in_the_cache_is_checked_at_every_use(publish, server, cache):
    publish(("sha256", SHA256))
    path = fetch("x")
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))} is not the file.*Delete it"):
        fetch("x")
    assert len(server.requests) == 1
    path.unlink()
    assert fetch("x").read_bytes() == CONTENT


def test_offline_it_says_which_file_to_put_where(monkeypatch, cache):
    with socket.socket() as unused:  # bound, and nobody listens
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/files/weights.bin"
        monkeypatch.setitem(NAMES, "x", Published("kind", url, ("sha256", SHA256)))
        with pytest.raises(OSError, match="could not be downloaded") as error:
            fetch("x")
        for part in (url, str(cache / "weights.bin"), SHA256):
            assert part in str(error.value)
        assert list(cache.iterdir()) == []
        # As the message says: by hand.
        (cache / "weights.bin").write_bytes(CONTENT)
        assert fetch("x") == cache / "weights.bin"


def test_an_address_that_is_gone(publish, cache):
    publish(("sha256", SHA256), path="/missing/weights.bin")
    with pytest.raises(OSError, match="404"):
        fetch("x")
    assert list(cache.iterdir()) == []


def test_calls_at_the_same_time(publish, cache):
    publish(("sha256", SHA256))
    results = []
    threads = [threading.Thread(target=lambda: results.append(fetch("x"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [cache / "weights.bin"] * 4
    assert (cache / "weights.bin").read_bytes() == CONTENT
    assert [path.name for path in cache.iterdir()] == ["weights.bin"]


def test_a_file_without_a_digest_is_not_downloaded(publish, server):
    publish(None)
    with pytest.raises(ValueError, match=r"Download http://.*/weights\.bin yourself"):
        fetch("x")
    assert server.requests == []


@pytest.mark.parametrize("ending", ["h5", "safetensors"])
def test_the_package_that_reads_a_file_is_missed_before_the_download(
    publish, server, monkeypatch, ending
):
    package = {"h5": "h5py"}.get(ending, ending)
    monkeypatch.setitem(sys.modules, package, None)
    publish(("sha256", SHA256), path=f"/files/weights.{ending}")
    with pytest.raises(ValueError, match=rf"weights\.{ending} .*pip install {package}`"):
        fetch("x")
    assert server.requests == []


def test_what_to_say_of_a_source_that_is_nowhere():
    near = downloads.nowhere("coco_torchvision_V1")
    assert near.endswith("did you mean coco_torchvision_v1 or coco_torchvision_v2?")
    assert downloads.nowhere("zzz").endswith(f"known are {', '.join(NAMES)}")
    for path in ("runs/zzz", "coco_torchvision_v1.pth"):
        said = f"there is no file or folder {path!r}; check the path"
        assert downloads.nowhere(path) == said


def test_unknown_name():
    with pytest.raises(ValueError, match=r"'coco' is no name.*coco_torchvision_v1"):
        fetch("coco")


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert downloads.cache_folder() == tmp_path / "weights"
    for value in ("", "off"):  # off: of compiled programs
        monkeypatch.setenv(ENVIRONMENT, value)
        assert downloads.cache_folder() == tmp_path / "xdg" / "maskrcnn_jax" / "weights"


def test_the_table_is_consistent():
    files = [published.file_name for published in NAMES.values()]
    assert len(set(files)) == len(files)  # they share a folder
    parts = {source.name: source.part for source in sources.SOURCES}
    for name, published in NAMES.items():
        is_detector = parts[published.kind] == "detector"
        assert name.startswith("coco_" if is_detector else "imagenet_")
        assert published.url.startswith("https://")
        algorithm, digits = published.digest or ("sha256", "0" * 64)
        assert re.fullmatch(r"[0-9a-f]+", digits)
        # Detectron2's zoo gives no more than the first digits, in its file names; MAE's README too.
        is_whole = len(digits) == 2 * hashlib.new(algorithm).digest_size
        named = (f"model_final_{digits}.pkl", f"-{digits}.pth")  # Detectron2's and torchvision's
        assert is_whole or published.file_name.endswith(named) or published.kind == "mae_vit"
        # The file names of torchvision hold the first digits of the SHA-256.
        if "download.pytorch.org" in published.url:
            assert digits.startswith(published.file_name[-12:-4])
