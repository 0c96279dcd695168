"""The pages of `python -m maskrcnn_jax.inspect`, on the tiny recipe."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskrcnn_jax.cli import inspect
from maskrcnn_jax.data import datasets
from maskrcnn_jax.data.augment.random_streams import Streams
from maskrcnn_jax.data.input.sample import make_example
from maskrcnn_jax.inspect.data import evenly, mask_grid_view
from maskrcnn_jax.inspect.model import model_views
from maskrcnn_jax.inspect.page import View, write_page
from maskrcnn_jax.inspect.targets import target_views
from tests.end_to_end.tiny import get_config
from tests.inference.tiny_model import tiny_predictor, tiny_variables

TINY = f"--config={Path(__file__).parents[1] / 'end_to_end' / 'tiny.py'}"


def _pictures(page: Path) -> list[str]:
    """Returns the names of a page's pictures, each of which is there and shows something."""
    names = re.findall('<img src="([^"]+)"', page.read_text())
    for name in names:
        assert cv2.imread(str(page.parent / name)).std() > 0
    return [Path(name).stem.split("_", 1)[1] for name in names]


def _page(tmp_path: Path, verb: str, *flags: str) -> list[str]:
    given = [verb, TINY, f"--out={tmp_path}", "--compilation_cache=off", *flags]
    assert inspect.main(given) == 0
    return _pictures(tmp_path / f"{verb}.html")


def test_data(tmp_path):
    shown = [f"{what}_{i}" for i in (0, 11) for what in ("image", "mask_grids_of_image")]
    assert _page(tmp_path, "data") == ["statistics", *shown]


def test_targets():
    config = get_config()
    dataset = datasets.load(config.data, "train")
    views = list(target_views(tiny_variables(), dataset, config, 1))
    names = ["anchor labels", "matched anchors", "sampled anchors", "sampled rois", "mask targets"]
    assert [view.title for view in views] == [f"{name} of 0" for name in names]
    assert "loss_mask" in views[0].legend
    levels, *others = (view.picture for view in views[:4])
    assert levels.shape == (860, 5 * 832 + 4 * 6, 3)
    streams = Streams(config.seed, 0, 0)
    example, _ = make_example(dataset.records[0], dataset, config.data, streams)
    x1, y1, x2, _ = (example["gt_boxes"][0] * 13).round().astype(int)
    for picture in others:
        assert picture.shape == (832, 832, 3)
        edge = picture[max(y1 - 2, 0) : y1 + 3, (x1 + x2) // 2]
        assert (edge > 240).all(axis=-1).any()  # the true box, in white
        green = (picture[..., 1] > 150) & (picture[..., 0] < 60) & (picture[..., 2] < 60)
        assert green.sum() > 50
    assert views[4].picture.std() > 0


def test_weights(tmp_path):
    assert _page(tmp_path, "weights") == ["backbone", "box_head", "fpn", "mask_head", "rpn"]


def test_model():
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    views = list(model_views(tiny_predictor(), image, "a.png", 0.0))
    first = "features objectness anchors proposals masks refinement rois"
    titles = [f"{title} of a.png" for title in first.split()]
    titles += ["nms of the rpn on a.png", "nms of classes on a.png"]
    titles += ["detections of a.png", "masks of a.png"]
    assert [view.title for view in views] == titles
    assert all(view.picture.dtype == np.uint8 and view.picture.std() > 0 for view in views)


def test_a_coarse_grid_loses_what_its_picture_shows():
    config = get_config()
    dataset = datasets.load(config.data, "train")
    fine = mask_grid_view(dataset.records[0], dataset, config).picture
    config.data.mask_size = 4
    coarse = mask_grid_view(dataset.records[0], dataset, config).picture
    reds = [(picture == (230, 30, 30)).all(-1).sum() for picture in (fine, coarse)]
    assert reds[1] > 4 * reds[0]


def test_pages_show_any_name_as_text(tmp_path):
    view = View("a <b> & /../c", "1 < 2", np.zeros((4, 4, 3), np.uint8))
    page = write_page(tmp_path, "x", "<x>", "words", [view])
    assert "<b>" not in page.read_text()
    assert "a &lt;b&gt; &amp; /../c" in page.read_text()
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["01_a_b_c.png"]


def test_images_are_spread():
    assert evenly(10, 3) == [0, 4, 9]
    assert evenly(2, 5) == [0, 1]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["model"], "give --workdir=DIR, a trained model, or --config=RECIPE"),
        (["data", TINY, "--max=0"], "--max is 0; at least 1 is needed"),
        (["model", TINY, "nowhere.png"], "nowhere.png"),
        (["weights", "--config=nowhere"], "nowhere"),
    ],
)
def test_what_does_not_fit_is_told(flags, said, capsys, tmp_path):
    assert inspect.main([*flags, f"--out={tmp_path}", "--compilation_cache=off"]) == 2
    assert said in capsys.readouterr().err
