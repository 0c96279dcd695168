"""From sources to files: images, videos, what cannot be read, and what is finished at an end."""

import errno
import json
import sys
from contextlib import suppress

import cv2
import numpy as np
import pytest
from PIL import Image

from maskrcnn_jax.images.paste import MaskCrop
from maskrcnn_jax.inference.result import Result
from maskrcnn_jax.predict import outputs as outputs_module
from maskrcnn_jax.predict.outputs import Outputs
from maskrcnn_jax.predict.run import Settings, run
from maskrcnn_jax.predict.sources import find
from maskrcnn_jax.visualization.style import Style
from tests.inference.tiny_model import CLASS_NAMES, tiny_predictor


@pytest.fixture
def paths(tmp_path):
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path in paths:
        Image.new("RGB", (64, 64)).save(path)
    return paths


def _run(out, given, wanted=("overlays", "json"), style=None, **changes):
    predictor = tiny_predictor()
    settings = Settings(lambda images: predictor.stream(images, 0.1))._replace(**changes)
    classes = list(zip((10, 20, 30), CLASS_NAMES, strict=True))
    outputs = Outputs(out, wanted, style or Style(), 1.0, classes)
    return run(predictor, find([str(g) for g in given])[0], outputs, settings)


def _entries(out):
    return json.loads((out / "predictions.json").read_text())


def test_what_cannot_be_read_is_passed_over(paths, tmp_path, capsys):
    paths[1].write_text("no image")
    seen = []
    (fault,) = _run(tmp_path / "out", paths, seen=lambda source: seen.append(source.name))
    assert "b.png" in fault
    assert seen == ["a", "c"]
    assert {entry["image_id"] for entry in _entries(tmp_path / "out")} == {1, 3}
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["a.png", "c.png"]
    said = capsys.readouterr()
    assert said.err.startswith("skipped: ")
    lines = said.out.splitlines()
    assert [line.partition(": ")[0] for line in lines[:2]] == [str(paths[0]), str(paths[2])]
    assert lines[2].startswith("2 images with ")
    assert lines[2].endswith(f"; overlays, json in {tmp_path / 'out'}")


@pytest.mark.parametrize("room_for_entries", [True, False])
def test_a_full_disk_is_told_with_what_is_finished(paths, tmp_path, monkeypatch, room_for_entries):
    write = outputs_module.write_atomically

    def until_full(path, content):
        is_entries = path.name == "predictions.json"
        if path.name == "c.png" or (is_entries and not room_for_entries):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(outputs_module, "write_atomically", until_full)
    with pytest.raises(OSError, match="No space left on device") as raised:
        _run(tmp_path / "out", paths)
    said = str(raised.value)
    if room_for_entries:
        assert "out/c.png" in said
        assert "2 images finished, in" in said
        assert {entry["image_id"] for entry in _entries(tmp_path / "out")} <= {1, 2}
    else:
        assert "out/predictions.json" in said
        assert "the files of 2 images are in" in said


@pytest.fixture
def frames(tmp_path):
    """Five frames of a square that moves, and the pattern of their names."""
    for i in range(5):
        frame = np.full((64, 64, 3), (60, 130, 20), np.uint8)
        frame[20:44, 8 * i : 8 * i + 20] = 40, 90, 220
        cv2.imwrite(str(tmp_path / f"frame_{i}.png"), frame)
    return tmp_path / "frame_%d.png"


def test_numbered_frames_become_a_video(frames, tmp_path, capsys):
    av = pytest.importorskip("av", reason="the package av is not installed")
    assert _run(tmp_path / "out", [frames], rate=10.0) == []
    with av.open(tmp_path / "out" / "frame.mp4") as film:
        drawn = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert [picture.shape for picture in drawn] == [(64, 64, 3)] * 5
    entries = _entries(tmp_path / "out")
    assert {(e["image_id"], e["frame"], e["seconds"]) for e in entries} == {
        (i + 1, i, i / 10) for i in range(5)
    }
    assert {entry["file_name"] for entry in entries} == {str(frames)}
    assert "frame_%d.png: 5 frames, " in capsys.readouterr().out


def _squares(images):
    """Finds the square of each frame, as wide as it is."""
    for i, _ in enumerate(images):
        x, width = 8 * i, min(20, 64 - 8 * i)
        yield (
            i,
            Result(
                boxes=np.float32([[x, 20, x + width, 44]]),
                scores=np.ones(1, np.float32),
                classes=np.ones(1, np.int32),
                class_names=("circle",),
                crops=(MaskCrop(np.ones((24, width), bool), 20, x),),
                height=64,
                width=64,
            ),
        )


def test_a_splash_of_a_video(frames, tmp_path):
    """Colour is where the objects of the frame are, and nowhere else."""
    av = pytest.importorskip("av", reason="the package av is not installed")
    splash = Style(splash=True)
    _run(tmp_path / "out", [frames], style=splash, max_frames=4, detect=_squares)
    with av.open(tmp_path / "out" / "frame.mp4") as film:
        drawn = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(drawn) == 4
    for i, picture in enumerate(drawn):
        colour = np.ptp(picture.astype(int), axis=-1)
        # Colours have half the size in a video: a little from the edge they are as they were.
        assert colour[24:40, 8 * i + 4 : 8 * i + 16].min() > 100
        colour[16:48, max(8 * i - 4, 0) : 8 * i + 24] = 0
        assert colour.max() < 30


def test_tables_need_no_package_for_videos(frames, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert _run(tmp_path / "out", [frames], ("csv",)) == []
    assert (tmp_path / "out" / "objects.csv").read_text().count("\n") > 5
    (tmp_path / "v.mp4").write_bytes(b"")
    (fault,) = _run(tmp_path / "out", [tmp_path / "v.mp4"], ("csv",))
    assert "pip install av" in fault


def test_ctrl_c_leaves_what_was_finished(frames, tmp_path):
    av = pytest.importorskip("av", reason="the package av is not installed")
    predictor = tiny_predictor()

    def until_ctrl_c(images):
        for index, result in predictor.stream(images, 0.1):
            if index == 3:
                raise KeyboardInterrupt
            yield index, result

    with suppress(KeyboardInterrupt):
        _run(tmp_path / "out", [frames], detect=until_ctrl_c)
    with av.open(tmp_path / "out" / "frame.mp4") as film:
        assert len(list(film.decode(video=0))) == 3
    assert {entry["frame"] for entry in _entries(tmp_path / "out")} == {0, 1, 2}


def test_a_frame_that_cannot_be_read_ends_its_video_alone(frames, paths, tmp_path):
    pytest.importorskip("av", reason="the package av is not installed")
    (tmp_path / "frame_3.png").write_text("no image")
    (fault,) = _run(tmp_path / "out", [frames, paths[0]])
    assert "frame_3.png" in fault
    names = {entry["file_name"] for entry in _entries(tmp_path / "out")}
    assert names == {str(frames), str(paths[0])}
    assert (tmp_path / "out" / "frame.mp4").exists()
