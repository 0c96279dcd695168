"""Grey PNG and TIFF of five channels, both of 16 bits, from the files to predictions."""

import json

import cv2
import numpy as np
import pytest

from maskrcnn_jax.inference.load import load
from tests.data.deep_images import deep_image, write_deep_set


def arguments_of(workdir, reader: dict[str, str], channels: int) -> list[str]:
    found = [
        f"--config.data.{split}.{k}={v}" for split in ("train", "val") for k, v in reader.items()
    ]
    return [
        "train.py",
        "--config=tests/end_to_end/tiny_deep.py",
        f"--workdir={workdir}",
        f"--config.data.channels={channels}",
        *found,
    ]


def pixel_of(channels: int) -> list[str]:
    """Mean and deviation as `stats` would give them, roughly."""
    mean, std = (1100.0,) * channels, (900.0,) * channels
    return [f"--config.model.pixel.mean={mean}", f"--config.model.pixel.std={std}"]


# The second number of channels compiles everything again.
@pytest.fixture(scope="module", params=[5, pytest.param(1, marks=pytest.mark.slow)])
def trained(request, run_command, tmp_path_factory):
    """The number of channels, the folder of images and the work directory of a run."""
    channels = request.param
    folder, workdir = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("run")
    command = arguments_of(workdir, write_deep_set(folder, channels), channels)
    status, out, err = run_command(*command, *pixel_of(channels))
    assert status == 0, err
    assert "6 images" in out
    return channels, folder, workdir


def test_a_run_without_their_mean_stops_at_once(run_command, tmp_path):
    command = arguments_of(tmp_path, write_deep_set(tmp_path / "images", 5), 5)
    status, _, err = run_command(*command)
    assert status == 2
    assert "data.channels = 5 needs 5 of each" in err
    assert "maskrcnn_jax.data stats" in err


def test_training_evaluates_and_draws_them(trained):
    _, _, workdir = trained
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss_total"] for row in rows if row["kind"] == "train"]
    assert losses
    assert np.isfinite(losses).all()
    metrics = json.loads((workdir / "eval" / "metrics.json").read_text())
    assert (metrics["images"], metrics["images_skipped"]) == (6, 0)
    picture = cv2.imread(str(next((workdir / "eval" / "pictures").glob("*.png"))))
    assert np.percentile(picture, 90) > 150  # 12 of 16 bits are stretched to be seen


def test_the_predictor_knows_its_images(trained):
    channels, folder, workdir = trained
    predictor = load(workdir)
    image = deep_image(channels, 0)[0]
    suffix = "png" if channels == 1 else "tif"
    from_array, from_file = predictor([image, folder / f"0.{suffix}"])
    np.testing.assert_array_equal(from_array.boxes, from_file.boxes)
    with pytest.raises(ValueError, match=rf"\(64, 64, 3\).*{channels}"):
        predictor(np.zeros((64, 64, 3), np.uint16))
    with pytest.raises(ValueError, match=r"of uint16, 0\.\.65535; given: uint8"):
        predictor(image.astype(np.uint8))


def test_eval_and_predict(trained, run_command, tmp_path):
    channels, folder, workdir = trained
    status, out, err = run_command("eval.py", f"--workdir={workdir}", f"--out={tmp_path / 'eval'}")
    assert status == 0, err
    assert "step 3" in out
    np.save(tmp_path / "array.npy", deep_image(channels, 9)[0])
    cv2.imwrite(str(folder / "photo.jpg"), np.full((64, 64, 3), 99, np.uint8))
    arguments = ("--min_score=0", "--stages", f"--out={tmp_path / 'out'}", str(folder))
    arguments += (str(tmp_path / "array.npy"),)
    status, out, err = run_command("predict.py", f"--workdir={workdir}", *arguments)
    assert status == 1
    assert "photo.jpg has 8 bits per value, config.data.depth is 16" in err
    assert "1 of 8 inputs could not be read" in err
    suffix = "png" if channels == 1 else "tif"
    pictures = {path.name for path in (tmp_path / "out").glob("*.*")} - {"predictions.json"}
    assert pictures == {"array.png", *(f"{number}.{suffix}" for number in range(6))}
    assert len(list((tmp_path / "out" / "stages" / "array").glob("*.png"))) == 5
