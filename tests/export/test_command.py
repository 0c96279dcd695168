"""The command: from each kind of source to a file, what it refuses, and what it leaves then."""

import json

import onnx
import pytest
from safetensors.numpy import save_file

from maskrcnn_jax.checkpoints import weights_folder
from maskrcnn_jax.cli import export as command
from tests.export.nets import CLASS_NAMES, SHAPE, detector
from tests.pretrained.narrow import narrow_model, random_state


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    made = detector("torchvision_v1")
    folder = tmp_path_factory.mktemp("source") / "model"
    weights_folder.write(folder, made.variables, made.metadata)
    return folder


def _run(source, out, *arguments):
    return command.main([str(source), f"--out={out}", *arguments])


def test_onnx_and_its_report(source, tmp_path, capsys):
    assert _run(source, tmp_path, "--format=onnx", "--license=MIT") == 0
    path = tmp_path / "detector_64x96.onnx"
    told = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(told["class_names"]) == list(CLASS_NAMES)
    assert told["license"] == "MIT"
    text = capsys.readouterr().out
    assert f"{path} (" in text
    assert "3 images, same classes and order" in text
    assert "the original" in text
    assert "ms" in text


def test_stablehlo_and_its_description(source, tmp_path):
    out = tmp_path / "mine.stablehlo"
    assert _run(source, out, "--format=stablehlo", "--batch=2", "--number=1") == 0
    told = json.loads((tmp_path / "mine.json").read_text())
    assert told["bucket"] == list(SHAPE)
    assert told["class_names"] == list(CLASS_NAMES)


def test_safetensors(source, tmp_path, capsys):
    assert _run(source, tmp_path / "new", "--format=safetensors") == 0
    assert "equal to the bit" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "README.md",
        weights_folder.CONFIG,
        weights_folder.WEIGHTS,
    ]


def test_another_projects_weights_in_one_line(tmp_path):
    """Random weights of a narrow torchvision detector, in an input of a size of its own."""
    path = tmp_path / "weights.safetensors"
    save_file(random_state(narrow_model("v1")), path)
    arguments = ("--format=safetensors", "--classes=cat,dog")
    assert _run(path, tmp_path / "folder", *arguments) == 0
    _, metadata = weights_folder.read(tmp_path / "folder")
    assert metadata["class_names"] == ("cat", "dog")
    assert metadata["source"]["kind"] == "torchvision_v1"


def test_images_of_ones_own(source, tmp_path, capsys):
    arguments = ("--format=onnx", "--images", str(tmp_path))
    assert _run(source, tmp_path / "out", *arguments) == 2
    assert "no image files" in capsys.readouterr().err
    arguments = ("--format=onnx", "--images", str(tmp_path / "nowhere"))
    assert _run(source, tmp_path / "out", *arguments) == 2
    assert "nowhere does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format=onnx", "--batch=2"), "--batch: an ONNX file takes one image"),
        (("--format=stablehlo", "--batch=many"), "--batch=many; give a number"),
        (("--format=stablehlo", "--masks=paste"), "--masks=paste is for --format=onnx"),
        (("--format=onnx", "--bucket=100x64"), "--bucket=100x64; give HxW in multiples of 32"),
        (("--format=onnx", "--bucket=64"), "--bucket=64; give HxW"),
        (("--format=onnx", "--number=0"), "--number=0; at least 1"),
        (("--format=onnx", "--classes=a,b"), "has names already"),
    ],
)
def test_refused_in_one_line(source, tmp_path, capsys, arguments, message):
    assert _run(source, tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_none(tmp_path, capsys):
    assert command.main([str(tmp_path / "x"), "--format=onnx"]) == 2
    assert "--out=PATH is missing" in capsys.readouterr().err
    assert _run(tmp_path / "x", tmp_path / "y", "--format=onnx") == 2
    assert str(tmp_path / "x") in capsys.readouterr().err


def test_a_file_that_is_there_stays(source, tmp_path, capsys):
    path = tmp_path / "mine.onnx"
    path.write_text("mine")
    assert _run(source, path, "--format=onnx") == 2
    assert "exists already" in capsys.readouterr().err
    assert path.read_text() == "mine"
