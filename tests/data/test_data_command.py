"""The commands of `python -m maskrcnn_jax.data`, as a user gives them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from maskrcnn_jax.cli.data import main
from maskrcnn_jax.data.tools import audit

ROOT = Path(__file__).resolve().parents[2]
SHAPES = f"--config={ROOT}/configs/shapes.py"
FEW = ("--config.data.train.count=20", "--config.data.val.count=20")


def arguments_of(paths: dict) -> list[str]:
    return ["--format=coco", *(f"--{name}={path}" for name, path in paths.items())]


def test_check_of_a_recipe_looks_at_both_splits(tmp_path, capsys):
    out = tmp_path / "out" / "faults.json"
    assert main(["check", SHAPES, *FEW, f"--out={out}"]) == 0
    text = capsys.readouterr().out
    assert "shapes-0: 20 images" in text
    assert "shapes-1: 20 images" in text
    content = json.loads(out.read_text())["splits"]
    assert {split: (c["images"], c["errors"]) for split, c in content.items()} == {
        "train": (20, 0),
        "val": (20, 0),
    }
    assert main(["check", SHAPES, *FEW, "--split=val"]) == 0
    assert "shapes-0" not in capsys.readouterr().out


def test_check_by_format_exits_with_1_where_there_are_errors(write_coco, capsys):
    paths = write_coco([{}, dict(category_id=90)])
    assert main(["check", *arguments_of(paths)]) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out
    paths = write_coco([{}, dict(category_id=90), dict(image_id=5)])
    assert main(["check", *arguments_of(paths)]) == 1
    text = capsys.readouterr().out
    assert "annotation 102: its image_id 5" in text
    assert "by kind: 1 unknown image" in text
    # Whatever the recipe says of faults, all of them are listed.
    assert main(["check", *arguments_of(paths), "--config.data.on_error=raise"]) == 1
    assert main(["check", *arguments_of(paths), "--config.data.max_pixels", "2399"]) == 1
    assert "more than the 2399" in capsys.readouterr().out


def test_arguments_that_are_true_or_false(write_coco, capsys):
    given = arguments_of(write_coco([dict(iscrowd=1)]))
    assert main(["check", *given]) == 1
    assert "crowd_as_objects=True" in capsys.readouterr().out
    assert main(["check", *given, "--crowd_as_objects=True"]) == 0
    with pytest.raises(SystemExit):
        main(["check", *given, "--crowd_as_objects=maybe"])
    assert "'maybe' is neither true nor false" in capsys.readouterr().err


def test_formats_divided_by_hash_take_a_split(write_mask_folder, capsys):
    mask = np.zeros((20, 30), np.uint8)
    mask[5:10, 5:10] = 255
    for number in range(12):
        root = write_mask_folder(f"image{number}", [mask])
    counts = {}
    for split in ("train", "val", "both", None):
        arguments = ["check", "--format=mask_folders", f"--folder={root}", "--val_fraction=0.4"]
        assert main(arguments + ([f"--split={split}"] if split else [])) == 0
        text = capsys.readouterr().out
        counts[split] = [int(n) for n in re.findall(r": (\d+) images", text)]
    assert counts["both"] == counts["train"] + counts["val"]
    assert counts[None] == [12] == [sum(counts["both"])]
    assert all(counts["both"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no data are named: give --config=FILE"),
        (["--config=nowhere.py"], "--config=nowhere.py: there is no such file"),
        ([SHAPES, "--config.data.trian.count=3"], "no key"),
        ([SHAPES, "--config.data.train.count=many"], "many"),
        ([SHAPES, "--folder=x"], "unknown arguments: --folder=x; readers' arguments need --format"),
        (["--format=voc2012"], "--format=voc2012; expected one of coco, cst"),
        (["--format=union"], "'parts' needs a recipe"),
        (["--format=shapes", "--count=3", "--seed=0", "--split=val"], "is not divided by that"),
        (["--format=labelme", "--folder=/nowhere"], "folder is '/nowhere', which does not exist"),
    ],
)
def test_wrong_command_lines_exit_with_2_and_one_line(arguments, message, capsys):
    assert main(["check", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_arguments_that_the_reader_lacks_exit_with_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["check", "--format=labelme", "--folder=.", "--foldr=x"])
    assert stopped.value.code == 2
    assert "unrecognized arguments: --foldr=x" in capsys.readouterr().err


def test_an_interrupt_exits_with_130(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(audit, "twin_images", interrupt)
    assert main(["check", SHAPES, *FEW]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_debug_shows_the_traceback(capsys):
    assert main(["check", "--config=nowhere.py", "--debug"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "no such file" in said
