"""`train.py` on real images: nuclei in folders of masks, and by labelme; what is exported then."""

import json
import re

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from maskrcnn_jax.cli import export
from maskrcnn_jax.export.web.site import RUNTIME

COMMAND = (
    "train.py",
    "--config=tests/end_to_end/tiny_folders.py",
    "--config.train.steps=4",
    "--config.train.log_every=1",
)


def losses(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [row["loss_total"] for row in rows if row["kind"] == "train"]


@pytest.fixture(scope="module")
def run(run_command, nuclei_dir, tmp_path_factory):
    """The work directory of a run of four steps."""
    workdir = tmp_path_factory.mktemp("nuclei")
    folders = [f"--config.data.{split}.folder={nuclei_dir / split}" for split in ("train", "val")]
    names = [f"--config.data.{split}.class_name=nucleus" for split in ("train", "val")]
    status, _, err = run_command(*COMMAND, *folders, *names, f"--workdir={workdir}")
    assert status == 0, err
    return workdir


def test_folders_of_masks(run):
    assert len(losses(run)) == 4
    assert np.isfinite(losses(run)).all()
    assert "segm/AP" in json.loads((run / "eval" / "metrics.json").read_text())


def test_labelme(run, run_command, small_nuclei_dir, tmp_path):
    """The images that have JSON files too, from the weights of the first run."""
    folder = small_nuclei_dir / "labelme"
    status, out, err = run_command(
        "train.py",
        "--config=tests/end_to_end/tiny_labelme.py",
        *(f"--config.data.{split}.folder={folder}" for split in ("train", "val")),
        f"--config.init={run}",
        f"--workdir={tmp_path}",
    )
    assert status == 0, err
    assert "classes kept: 1 of 1: nucleus" in out
    assert np.isfinite(losses(tmp_path)).all()


@pytest.fixture
def export_run(run, nuclei_dir, tmp_path):
    """Exports the run, compared on two of its own images; gives the status and the place."""
    images = [str(path) for path in sorted(nuclei_dir.glob("val/*/images/*.png"))[:2]]

    def exported(*arguments):
        out = tmp_path / "out"
        given = (f"--out={out}", "--images", *images)
        return export.main([str(run), *given, *arguments]), out

    return exported


@pytest.mark.parametrize("kind", ["onnx", "stablehlo", "web"])
def test_a_trained_detector_elsewhere(export_run, tmp_path, capsys, kind):
    """It finds what the checkpoint finds, as the command says that keeps no other file."""
    for name in RUNTIME:
        (tmp_path / name).touch()
    web = [f"--runtime={tmp_path}"] if kind == "web" else []
    status, out = export_run(f"--format={kind}", *web)
    assert status == 0
    suffix = "stablehlo" if kind == "stablehlo" else "onnx"
    assert len(list(out.glob(f"*_64x64.{suffix}"))) == 1
    told = re.search(
        r"compared on given images: (\d+) detections of 2 images, same classes and order.*"
        r"boxes (\S+) px .*scores (\S+) .*masks (\S+) ",
        capsys.readouterr().out,
    )
    detections, *differences = map(float, told.groups())
    assert detections > 0
    assert (np.array(differences) <= (1e-3, 1e-4, 1e-3)).all()


def test_a_trained_detectors_weights(export_run, capsys):
    status, out = export_run("--format=safetensors")
    assert status == 0
    assert "read back equal to the bit" in capsys.readouterr().out
    assert (out / "model.safetensors").stat().st_size > 0


def test_a_graph_with_a_wrong_weight_is_not_kept(export_run, monkeypatch, capsys):
    convert = export.convert

    def broken(*arguments):
        proto = onnx.load_from_string(convert(*arguments))
        stem = next(c for c in proto.graph.initializer if list(c.dims) == [8, 3, 7, 7])
        weights = numpy_helper.to_array(stem).copy()
        weights[2, 1, 3, 3] += 0.5
        stem.CopyFrom(numpy_helper.from_array(weights, stem.name))
        return proto.SerializeToString()

    monkeypatch.setattr(export, "convert", broken)
    status, out = export_run("--format=onnx")
    assert status == 2
    error = capsys.readouterr().err
    assert "was not written, because it does not do what the original does" in error
    assert not out.exists()
