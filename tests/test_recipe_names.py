"""`--config`: recipes by name or by file, mistakes told in one line."""

import pytest

from maskrcnn_jax import config_flags, recipes
from maskrcnn_jax.config import get_config

KNOWN = (
    "the recipes are coco, coco_mini, nuclei, own, shapes; a file of your own is given by its path"
)


@pytest.mark.parametrize(
    ("given", "by_file"), [("coco:3x", "configs/coco.py:3x"), ("shapes", "configs/shapes.py")]
)
def test_a_recipe_has_a_name(given, by_file, monkeypatch, tmp_path):
    expected = config_flags.read(by_file)
    monkeypatch.chdir(tmp_path)  # from any folder
    assert config_flags.read(given) == expected


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
            f"--config=cocoo: there is no such recipe; did you mean coco or coco_mini? {KNOWN}",
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
