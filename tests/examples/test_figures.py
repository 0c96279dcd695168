"""The generated figures: what the reader of COCO's keypoints finds is what was drawn."""

import cv2
import numpy as np
import pytest

from configs.figures import get_config
from examples import figures
from maskrcnn_jax.data import datasets


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures") / "set"
    figures.main([str(folder), "--train=4", "--val=2"])
    return folder


def test_the_recipe_reads_every_figure_and_keypoint(written):
    config = get_config()
    assert config.model.keypoints.names == figures.NAMES
    for split in ("train", "val"):
        getattr(config.data, split).root = str(written / split)
    config.validate()
    found = datasets.load_for(config, "train")
    assert not found.faults
    assert len(found.records) == 4
    for index, record in enumerate(found.records):
        _, drawn = figures.draw(np.random.default_rng([0, index]))
        assert len(record.boxes) == len(drawn)
        places = np.array([[points[name] for name in figures.NAMES] for _, points in drawn])
        np.testing.assert_allclose(record.keypoints[..., :2], np.floor(places) + 0.5)
        x1, y1, x2, y2 = record.boxes.T[..., None]
        x, y = np.moveaxis(record.keypoints[..., :2], -1, 0)
        assert ((x1 <= x) & (x <= x2) & (y1 <= y) & (y <= y2)).all()


def test_keypoints_lie_on_what_is_drawn():
    picture, drawn = figures.draw(np.random.default_rng([0, 0]))
    _, points = drawn[-1]  # nothing lies on the last one
    middle = np.median(picture.reshape(-1, 3), axis=0)
    for name in figures.NAMES:
        x, y = points[name].astype(int)
        assert abs(picture[y, x] - middle).max() > 30, name


def test_a_folder_that_is_there_is_left_alone(written, capsys):
    with pytest.raises(SystemExit):
        figures.main([str(written)])
    assert "exists already; give a new folder" in capsys.readouterr().err
    assert cv2.imread(str(written / "val" / "images" / "0001.png")).shape == (128, 128, 3)
