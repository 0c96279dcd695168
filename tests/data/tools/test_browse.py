from pathlib import Path

import cv2
import numpy as np
import pytest

from maskrcnn_jax.cli.data import main
from maskrcnn_jax.config import Config, get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.data.formats import coco, shapes
from maskrcnn_jax.data.input.pipeline import eval_batches, train_batches
from maskrcnn_jax.data.tools import browse

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def config() -> Config:
    config = get_config()
    config.seed = 3
    set_values(
        config.data, dict(resize="square", buckets=((64, 64),), mask_size=14, max_instances=3)
    )
    set_values(
        config.data.augment,
        dict(rotate=20.0, brightness=0.4, copy_paste=0.5, scale_range=(0.5, 2.0)),
    )
    config.train.batch_size = config.eval.batch_size = 1
    return config


@pytest.fixture
def drawn(monkeypatch) -> list:
    """Collects the examples that are drawn."""
    examples = []

    def draw(example, class_names, keypoints):
        examples.append(example)
        return example["image"]

    monkeypatch.setattr(browse, "draw_example", draw)
    return examples


def assert_equal(example, batch) -> None:
    assert example.keys() == batch.keys()
    for name, value in example.items():
        np.testing.assert_array_equal(value, batch[name][0], name)


@pytest.mark.parametrize("tile", [0, 40])
def test_examples_are_those_of_training_to_the_bit(config, drawn, tmp_path, tile):
    config.data.augment.tile = tile
    dataset = shapes.read(count=4, seed=0, size=64)
    assert browse.browse(dataset, config, tmp_path, most=0, epochs=2) == []
    samples = 4 if not tile else 16
    assert len(drawn) == 2 * samples == 2 * len(list(tmp_path.glob("*.png")))
    batches = train_batches(dataset, config)
    for _ in range(2 * samples):
        batch, info = next(batches)
        assert_equal(drawn[2 * info["indices"][0] + info["epoch"]], batch)
    batches.close()


def test_examples_are_those_of_evaluation_to_the_bit(config, drawn, tmp_path):
    dataset = shapes.read(count=4, seed=0, size=64)
    browse.browse(dataset, config, tmp_path, is_training=False, most=0, epochs=3)
    assert len(drawn) == 4  # there are no epochs
    for batch, info in eval_batches(dataset, config):
        assert_equal(drawn[info["indices"][0]], batch)


def test_pictures_are_spread_over_the_dataset(config, tmp_path):
    dataset = shapes.read(count=9, seed=0, size=64)
    browse.browse(dataset, config, tmp_path, most=3, epochs=2, raw=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["000000_0.png", "000004_4.png", "000008_8.png"]
    height, width, _ = cv2.imread(str(tmp_path / names[0])).shape
    assert (height, width) == (28 + 832, 3 * 832 + 2 * 6)


def test_images_of_other_sizes_stand_beside_each_other(config, tmp_path, write_coco):
    dataset = coco.read(**write_coco([{}, dict(iscrowd=1)]))
    browse.browse(dataset, config, tmp_path, is_training=False, raw=True)
    picture = cv2.imread(str(tmp_path / "000000_7.png"))
    assert picture.shape == (28 + 832, 60 * 14 + 6 + 832, 3)
    assert np.all(picture[28 + 40 * 14 :, : 60 * 14] == 255)


def test_unreadable_images_are_skipped_and_named_or_raise(config, tmp_path, write_coco):
    images = [dict(id=i, file_name=f"{i}.png", height=40, width=60) for i in (7, 8)]
    paths = write_coco([{}])
    (paths["images"] / "a.png").rename(paths["images"] / "7.png")
    dataset = coco.read(**write_coco([{}], images))
    (skipped,) = browse.browse(dataset, config, tmp_path / "out")
    assert skipped.startswith("image 8 (")
    assert "No such file" in skipped
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["000000_7.png"]
    config.data.on_error = "raise"
    with pytest.raises(ValueError, match=r"image 8 \(.*8.png\).*No such file"):
        browse.browse(dataset, config, tmp_path / "out")


def test_the_command(tmp_path, capsys):
    few = ("--config.data.train.count=3", "--config.data.val.count=3")
    shapes_config = f"--config={ROOT}/configs/shapes.py"
    out = f"--out={tmp_path}"
    assert main(["browse", shapes_config, *few, out, "--max=2", "--split=both"]) == 0
    assert f"written to {tmp_path}/val" in capsys.readouterr().out
    assert len(list(tmp_path.glob("*/*.png"))) == 4
    assert main(["browse", shapes_config, *few, out, "--max=1"]) == 0
    assert len(list(tmp_path.glob("*.png"))) == 1
    assert main(["browse", shapes_config, *few, out, "--epochs=0"]) == 2
    assert "--epochs is 0; at least 1" in capsys.readouterr().err
    assert main(["browse", shapes_config, *few, out, "--config.data.augment.flip=2"]) == 2
    assert "data.augment.flip is 2" in capsys.readouterr().err
