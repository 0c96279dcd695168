"""Publishing a model to a folder, an archive and a hub on this machine, and loading it again."""

import json
import zipfile

import jax
import numpy as np
import pytest
import yaml

import maskrcnn_jax
from maskrcnn_jax.checkpoints import weights_folder
from maskrcnn_jax.cli import hub as command
from maskrcnn_jax.config_json import to_json
from maskrcnn_jax.hub import address, publish
from maskrcnn_jax.hub.load import load_model
from maskrcnn_jax.models.build import initial_variables, make_model
from tests.end_to_end.tiny import get_config
from tests.hub import stub

NAMES = ("circle", "rectangle", "triangle")


@pytest.fixture(scope="module")
def model():
    """Variables and metadata of an untrained detector."""
    config = get_config()
    config.data.train = {"folder": "/home/somebody/secret/photos"}
    variables = initial_variables(make_model(config.model, len(NAMES)), jax.random.key(0))
    metadata = {
        "config": to_json(config),
        "class_names": NAMES,
        "category_ids": (10, 20, 30),
        "step": 7,
        "license": "cc-by-4.0",
    }
    return jax.device_get(variables), metadata


@pytest.fixture
def folder(model, tmp_path):
    return publish.push(*model, str(tmp_path / "model"), metrics={"segm/AP": 0.5, "bbox/AP": -1})


def _is_equal(variables, found):
    pairs = zip(*map(jax.tree.leaves, (variables, found)), strict=True)
    return all(a.tobytes() == b.tobytes() for a, b in pairs)


def test_predictions_are_equal_to_the_bit(model, folder):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    original, loaded = maskrcnn_jax.Predictor(*model), maskrcnn_jax.load(folder)
    ours, theirs = original(image), loaded(image)
    assert len(ours) > 0
    for name in ("boxes", "scores", "classes", "masks"):
        assert getattr(ours, name).tobytes() == getattr(theirs, name).tobytes()


def test_what_a_folder_has(folder):
    text = (publish.Path(folder) / address.CARD).read_text()
    front, body = text.split("---\n")[1:]
    told = yaml.safe_load(front)
    assert told["license"] == "cc-by-4.0"
    assert told["library_name"] == "maskrcnn_jax"
    assert "3: circle, rectangle, triangle" in body
    assert "| mask AP | 50.0 |" in body
    assert "box AP |" not in body  # of an evaluation without objects
    assert f'maskrcnn_jax.load("{folder}")' in body


def test_nobodys_folders_are_told(folder):
    files = [path.read_bytes() for path in publish.Path(folder).iterdir()]
    assert len(files) == 3
    assert not any(b"somebody" in content for content in files)
    _, metadata = load_model(folder)
    assert metadata["config"]["data"]["train"]["folder"] == "photos"


def test_an_archive(model, tmp_path):
    place = str(tmp_path / "model.zip")
    assert publish.push(*model, place) == place
    variables, metadata = load_model(place)
    assert _is_equal(model[0], variables)
    assert metadata["class_names"] == NAMES
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]


def test_an_archive_of_somebody_elses_making(folder, tmp_path):
    """Packed, with a folder around the files, and with what would land elsewhere."""
    place = tmp_path / "theirs.zip"
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in publish.Path(folder).iterdir():
            archive.write(path, f"model-main/{path.name}")
        archive.writestr("../../outside.py", "raise SystemExit")
    load_model(place)
    assert not list(tmp_path.parent.glob("outside.py"))


def test_archives_that_are_refused(folder, tmp_path):
    place = tmp_path / "bomb.zip"
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(weights_folder.WEIGHTS, b"\0" * 10_000_000)
        archive.writestr(weights_folder.CONFIG, "{}")
    with pytest.raises(ValueError, match="made to exhaust memory"):
        load_model(place)
    place.write_bytes(place.read_bytes()[:500])
    with pytest.raises(ValueError, match="is damaged"):
        load_model(place)
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("notes.txt", "x")
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        load_model(place)


def test_a_place_that_is_taken(model, folder):
    with pytest.raises(ValueError, match="exists already"):
        publish.push(*model, folder)


def test_one_model_has_no_checkpoints(folder):
    with pytest.raises(ValueError, match="leave checkpoint 'best' out"):
        load_model(folder, "best")


def test_the_command(folder, tmp_path, capsys):
    place = str(tmp_path / "copy")
    assert command.main(["pull", folder, place]) == 0
    assert capsys.readouterr().out == f"{place}\n"
    assert _is_equal(load_model(folder)[0], load_model(place)[0])
    assert load_model(place)[1]["license"] == "cc-by-4.0"
    assert command.main(["push", str(tmp_path / "nothing"), place]) == 2
    assert "nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["hf://name", "hf://a/b/c", "hf://../b", "hf://a/b@", "hf://a/b@x y", "hf://-a/b"]
)
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match="is no address"):
        address.parse(text)


def test_addresses():
    assert address.parse("hf://user/a-b.c") == ("user/a-b.c", None)
    assert address.parse("hf://user/name@v1.0") == ("user/name", "v1.0")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub of one's own, in place of the public one."""
    library = pytest.importorskip("huggingface_hub")
    with stub.running() as running:
        monkeypatch.setattr(address, "library", lambda: _Library(library, running, tmp_path))
        yield running


class _Library:
    """huggingface_hub, told where the hub is and where to keep what it fetches."""

    def __init__(self, library, hub, folder):
        self._library, self._hub, self._folder = library, hub, folder

    def HfApi(self):
        return self._library.HfApi(endpoint=self._hub.address, token="hf_test")

    def snapshot_download(self, *arguments, **options):
        options |= {"endpoint": self._hub.address, "cache_dir": self._folder / "cache"}
        return self._library.snapshot_download(*arguments, **options)


def test_push_to_a_hub_and_load_from_there(model, hub):
    page = publish.push(*model, "hf://user/name")
    assert page == f"{hub.address}/user/name/commit/{stub.REVISION}"
    sent = hub.repositories["user/name"]
    assert sorted(sent) == sorted(address.FILES)
    sent["code.py"] = b"raise SystemExit"
    variables, metadata = load_model("hf://user/name")
    assert _is_equal(model[0], variables)
    assert metadata["class_names"] == NAMES
    assert sorted(hub.fetched) == sorted(address.FILES)
    load_model("hf://user/name")
    assert len(hub.fetched) == len(address.FILES)  # they are there already


def test_a_tampered_file_is_refused(model, hub):
    publish.push(*model, "hf://user/name")
    files = hub.repositories["user/name"]
    content = bytearray(files[weights_folder.WEIGHTS])
    content[-3] ^= 1
    files[weights_folder.WEIGHTS] = bytes(content)
    with pytest.raises(ValueError, match="1 arrays are not what was written"):
        load_model("hf://user/name")


def test_what_a_hub_does_not_have(hub):
    with pytest.raises(OSError, match="hf://user/other cannot be fetched"):
        load_model("hf://user/other")
    hub.repositories["user/other"] = {"README.md": json.dumps({}).encode()}
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        load_model("hf://user/other")
    with pytest.raises(ValueError, match="leave @v1 out"):
        address.upload(publish.Path("."), "hf://user/name@v1", private=False)


def test_a_hub_that_is_not_there(model, hub):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(OSError, match="cannot be sent: "):
        publish.push(*model, "hf://user/name")
