"""`python -m maskrcnn_jax.pretrained`, and eval.py and predict.py on what it makes."""

import json

import cv2
import numpy as np
import pytest

from maskrcnn_jax.cli import pretrained as command
from maskrcnn_jax.compilation import ENVIRONMENT
from maskrcnn_jax.pretrained import convert
from maskrcnn_jax.pretrained.files.published import NAMES, Published
from tests import forked
from tests.pretrained.narrow import narrow_model, random_state, write

# So few proposals that a run at the full size of an image takes no time.
FAST = ("--set", "model.rpn.pre_nms_top_n_eval=20", "--set", "model.rpn.post_nms_top_n_eval=10")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pretrained")


@pytest.fixture(scope="module")
def file(folder):
    """A narrow detector of two classes in torchvision's layout."""
    state = random_state(narrow_model("v1"))
    # Every anchor is a proposal, and every proposal a cat, where it is.
    for name in ("roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"):
        state[f"{name}.weight"][:] = state[f"{name}.bias"][:] = 0
    state["rpn.head.bbox_pred.weight"][:] = state["rpn.head.bbox_pred.bias"][:] = 0
    state["roi_heads.box_predictor.cls_score.bias"][1] = 5
    return write(folder / "theirs.safetensors", state)


@pytest.fixture(scope="module")
def workdir(folder, file):
    """A work directory that the command has made, and what it has printed."""
    out = folder / "run"
    arguments = [str(file), "--out", str(out), "--classes", "cat,dog", *FAST]
    status, printed, err = forked.run("-m", "maskrcnn_jax.pretrained", *arguments)
    assert status == 0, err
    return out, printed


@pytest.fixture(scope="module")
def data(folder):
    """Two images with a cat and a dog, as COCO has them."""
    root = folder / "data"
    (root / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in (1, 2):
        image = np.random.default_rng(i).integers(0, 256, (60, 80, 3), np.uint8)
        cv2.imwrite(str(root / "images" / f"{i}.png"), image)
        images.append({"id": i, "file_name": f"{i}.png", "height": 60, "width": 80})
        corners = [10, 10, 50, 10, 50, 40, 10, 40]
        annotations.append(
            {
                "id": i,
                "image_id": i,
                "category_id": i,
                "bbox": [10, 10, 40, 30],
                "area": 1200,
                "iscrowd": 0,
                "segmentation": [corners],
            }
        )
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "instances.json").write_text(json.dumps(content))
    return root


def test_what_it_prints(workdir, file):
    out, printed = workdir
    lines = printed.splitlines()
    assert lines[0].startswith("theirs.safetensors: torchvision_v1, a detector; SHA-256 ")
    rows = {words[0]: words[1:] for line in lines[1:8] if (words := line.split())}
    modules = ("backbone", "fpn", "rpn", "box_head", "mask_head")
    assert rows.keys() == {"mapped", *modules, "total"}
    assert rows["rpn"] == ["6", f"{8 * 8 * 9 + 8 + 8 * 3 + 3 + 8 * 12 + 12}"]
    assert int(rows["total"][0]) == sum(int(rows[name][0]) for name in modules)
    assert "left behind: nothing" in lines
    assert "merged: none" in lines
    assert "classes: 2: cat, dog" in lines
    assert any(line.split()[:2] == ["model.backbone.norm_eps", "0.0"] for line in lines)
    assert any(line.split()[:2] == ["model.fpn.channels", "8"] for line in lines)
    assert any(f"eval.py --workdir={out} --config.data.val.root=DIR" in line for line in lines)
    assert any(f"--config.init={out}" in line for line in lines)


def test_predict_and_eval_take_it(workdir, data, run_command, tmp_path):
    out, _ = workdir
    results = f"--out={tmp_path / 'predictions'}"
    image = str(data / "images" / "1.png")
    code, stdout, stderr = run_command("predict.py", f"--workdir={out}", image, results)
    assert code == 0, stderr
    assert "objects" in stdout

    keys = {"root": data, "images": "images", "annotations": "instances.json"}
    arguments = [f"--config.data.val.{key}={value}" for key, value in keys.items()]
    arguments += ["--config.eval.batch_size=1", f"--out={tmp_path / 'eval'}"]
    code, stdout, stderr = run_command("eval.py", f"--workdir={out}", *arguments)
    assert code == 0, stderr
    assert json.loads((tmp_path / "eval" / "metrics.json").read_text())["images"] == 2
    detections = json.loads((tmp_path / "eval" / "detections.json").read_text())
    assert {entry["category_id"] for entry in detections} == {1}
    assert {entry["image_id"] for entry in detections} == {1, 2}


def run(capsys, *arguments):
    code = command.main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_verbose_lists_every_array(file, tmp_path, capsys):
    code, out, _ = run(capsys, file, "--out", tmp_path / "run", "--verbose")
    assert code == 0
    assert "  backbone.body.conv1.weight [4, 3, 7, 7] -> params.backbone.stem.conv.kernel " in out
    assert out.count(" -> params.") + out.count(" -> batch_stats.") == 20 * 5 + 16 + 6 + 8 + 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.pth",), "there is no file or folder 'nowhere.pth'; check the path"),
        (("coco_torchvison_v2",), "did you mean coco_torchvision_v2"),
        (("imagenet_torchvision_r50",), "--config.init=imagenet_torchvision_r50"),
        (("FILE", "--classes", "cat"), "1 class names are given (cat)"),
        (("FILE", "--set", "backbone.norm_eps=1"), "expected model.KEY=VALUE"),
        (
            ("FILE", "--set", "model.backbone.norm_epsilon=1"),
            "did you mean model.backbone.norm_eps",
        ),
        (("FILE", "--set", "model.fpn.norm=bn"), "backbone.fpn.inner_blocks.0.1.weight"),
        (("FILE", "--to", "torchvision"), "is a file; with --to, SOURCE is the work directory"),
    ],
)
def test_errors(file, tmp_path, capsys, arguments, message):
    arguments = [str(file) if argument == "FILE" else argument for argument in arguments]
    code, out, err = run(capsys, *arguments, "--out", tmp_path / "run")
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert not (tmp_path / "run").exists()


def test_errors_of_an_export(workdir, tmp_path, capsys):
    to = ("--to", "torchvision", "--out")
    code, _, err = run(capsys, tmp_path, *to, tmp_path / "x.safetensors")
    assert code == 2
    assert "give the work directory of a training run" in err
    code, _, err = run(capsys, workdir[0], *to, tmp_path / "x.npz")
    assert code == 2
    assert "ends in .pth, .pt, .safetensors" in err
    (tmp_path / "there.safetensors").write_text("mine")
    code, _, err = run(capsys, workdir[0], *to, tmp_path / "there.safetensors")
    assert code == 2
    assert "exists already" in err
    assert [path.name for path in tmp_path.iterdir()] == ["there.safetensors"]


def test_an_existing_work_directory_is_refused_before_anything_is_read(workdir, capsys):
    out, _ = workdir
    code, _, err = run(capsys, "coco_torchvision_v1", "--out", out)
    assert code == 2
    assert f"{out / 'checkpoints'} exists already" in err


def test_a_work_directory_is_not_converted(workdir, tmp_path, capsys):
    code, _, err = run(capsys, workdir[0], "--out", tmp_path / "run")
    assert code == 2
    assert f"{workdir[0]} is a work directory, which needs no conversion; add --to" in err


def test_a_name_is_downloaded(file, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "cache"))
    digest = ("sha256", convert.sha256(file))
    published = Published("torchvision_v1", file.as_uri(), digest)
    monkeypatch.setitem(NAMES, "coco_mine", published)
    code, out, err = run(capsys, "coco_mine", "--out", tmp_path / "run")
    assert code == 0, err
    assert out.startswith("theirs.safetensors: torchvision_v1")
    assert f"coco_mine: downloading {file.as_uri()}" in err
    assert (tmp_path / "run" / "checkpoints" / "0").is_dir()
    assert (tmp_path / "cache" / "weights" / file.name).is_file()


def test_an_interrupt_leaves_nothing(file, tmp_path, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(convert.checkpoint_format, "save_weights", interrupted)
    code, _, err = run(capsys, file, "--out", tmp_path / "run")
    assert code == 130
    assert err == "interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []
