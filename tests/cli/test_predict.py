"""What predict.py says when its results cannot be written."""

import errno
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from maskrcnn_jax.cli import predict
from maskrcnn_jax.visualization.style import Style
from tests.inference.tiny_model import tiny_predictor


def _options(folder, **changes) -> SimpleNamespace:
    usual = {"out": folder / "out", "min_score": 0.1, "stages": False, "style": Style()}
    return SimpleNamespace(**{**usual, "tile": None, "overlap": 0.25, **changes})


@pytest.mark.parametrize("room_for_entries", [True, False])
def test_a_full_disk_is_told_with_what_is_finished(tmp_path, monkeypatch, room_for_entries):
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path in paths:
        Image.new("RGB", (64, 64)).save(path)
    write, written = predict.write_atomically, []

    def until_full(path, content):
        is_entries = path.name == "predictions.json"
        if (len(written) >= 2 and not is_entries) or (is_entries and not room_for_entries):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        write(path, content)

    monkeypatch.setattr(predict, "write_atomically", until_full)
    options = _options(tmp_path)
    with pytest.raises(OSError, match="No space left on device") as raised:
        predict.run(tiny_predictor(), paths, options)
    said = str(raised.value)
    if room_for_entries:
        assert "out/c.png" in said
        assert "2 of 3 images are finished" in said
        entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
        assert {entry["image_id"] for entry in entries} <= {1, 2}
    else:
        assert "out/predictions.json" in said
        assert "the pictures of 2 images are in" in said


def test_a_dark_image_of_12_bits_is_told_once(tmp_path, capsys):
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    Image.new("RGB", (64, 64)).save(paths[0])
    for path in paths[1:]:
        Image.fromarray(np.full((64, 64), 3500, np.uint16)).save(path)
    options = _options(tmp_path)
    assert predict.run(tiny_predictor(), paths, options) == []
    (said,) = capsys.readouterr().err.splitlines()
    assert "b.png has 16 bits" in said
    assert "values from 3500 to 3500 of 65535, so 1 of 256 levels are left" in said
    assert "config.data.normalize=percentile" in said
