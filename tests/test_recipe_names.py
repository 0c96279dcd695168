"""`--config`: recipes by name or by file, mistakes told in one line."""

import ast

import pytest

from configs import coco
from maskrcnn_jax import config_flags, config_json, recipes
from maskrcnn_jax.config import get_config
from maskrcnn_jax.data import datasets

KNOWN = (
    "the recipes are balloon, coco, coco_boxes, coco_cascade, coco_convnext, coco_keypoints, "
    "coco_mask_scoring, coco_mini, coco_point_rend, coco_vitdet, cst, figures, grains, lvis, "
    "nuclei, own, penn_fudan, shapes, voc; a file of your own is given by its path"
)


@pytest.mark.parametrize(
    ("given", "by_file"), [("coco:3x", "configs/coco.py:3x"), ("shapes", "configs/shapes.py")]
)
def test_a_recipe_has_a_name(given, by_file, monkeypatch, tmp_path):
    expected = config_flags.read(by_file)
    monkeypatch.chdir(tmp_path)  # from any folder
    assert config_flags.read(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        *(name for name in recipes.names() if name != "own"),
        *(f"coco:{name}" for name in (*coco.SCHEDULES, *coco.VARIANTS)),
        *(
            "coco_convnext:s",
            "coco_vitdet:l",
            "voc:2007",
            "grains:mineral",
            "own:photos",
            "own:photos:small",
        ),
    ],
)
def test_every_recipe_is_valid_and_asks_for_its_folder(given, monkeypatch, tmp_path):
    """Its reader takes the arguments, so that the folder is all that is missing."""
    monkeypatch.chdir(tmp_path)  # where no data lie
    config = config_flags.read(given)
    config.validate()
    config_json.to_json(config)
    if config.data.format == "shapes":
        return
    for split in ("train", "val"):
        with pytest.raises(ValueError, match=f"config.data.{split}: .*does not exist"):
            datasets.load(config.data, split)


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_says_its_command(name):
    said = ast.get_docstring(ast.parse((recipes.folder() / f"{name}.py").read_text()))
    assert f"python train.py --config=configs/{name}.py" in said or name == "own"
    assert "Cost" in said or name in ("coco", "own")


def test_lsj_is_the_detector_and_the_jitter_of_the_paper():
    config = config_flags.read("coco:lsj_paste")
    assert config.model.box_head.convs == 4
    assert config.model.rpn.convs == 2
    assert config.data.augment.scale_range == (0.1, 2.0)
    assert config.data.augment.copy_paste == 0.5
    images = config.train.steps * config.train.batch_size
    assert round(images / 118_000) == 100  # epochs
    assert config_flags.read("coco:r101").model.backbone.depth == 101


def test_an_argument_may_have_a_colon():
    assert config_flags.read("own:photos:small").data.train.folder == "photos"


def test_a_file_comes_before_a_recipe_of_the_same_name(monkeypatch, tmp_path):
    (tmp_path / "coco").write_text("not a recipe")
    monkeypatch.chdir(tmp_path)
    assert recipes.find("coco") == "coco"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "cocoo",
            "--config=cocoo: there is no such recipe; did you mean coco or coco_boxes or "
            f"coco_mini? {KNOWN}",
        ),
        (
            "configs/shape.py:2",
            "--config=configs/shape.py:2: there is no such file; did you mean shapes?",
        ),
        ("quite_other", f"--config=quite_other: there is no such recipe; {KNOWN}"),
        ("", f"--config=: there is no such recipe; {KNOWN}"),
        (None, f"--config is missing; give a recipe, --config=NAME: {KNOWN}"),
    ],
)
def test_a_mistyped_recipe_gives_the_nearest_names(given, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        config_flags.read(given)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_key_that_no_recipe_has_is_one_line():
    with pytest.raises(
        ValueError, match=r"train\.stpes; did you mean config\.train\.steps"
    ) as error:
        config_flags.read("shapes", ["--config.train.stpes=3"])
    assert "\n" not in str(error.value)


def test_keys_change_a_default_where_there_is_no_recipe():
    config = config_flags.read(None, ["--config.train.steps=7"], default=get_config())
    assert config.train.steps == 7


def test_keys_are_separated_from_other_arguments():
    given = ["--config.a", "1", "x.jpg", "--noconfig.b", "--config.c=2", "y", "--folder=z"]
    keys, rest = config_flags.separate(given)
    assert keys == ["--config.a=1", "--noconfig.b", "--config.c=2"]
    assert rest == ["x.jpg", "y", "--folder=z"]
    with pytest.raises(ValueError, match="unknown arguments: --stpes=3; --help"):
        config_flags.only_keys(["--config.a=1", "--stpes=3"])
