"""What commands print of names that anybody may have chosen."""

import json
import os
import subprocess
import sys

from PIL import Image

from maskrcnn_jax.cli import command
from maskrcnn_jax.cli.data import main

NAMES = (b"M\xfcller", b"\x1b[2Jx", "größe".encode())


def test_errors_and_output_are_shown_and_do_nothing(capsys):
    def work():
        print("read \x1b[2Ja\udcff.jpg")
        raise ValueError("no \x1b]0;title\x07 in it\nand on")

    assert command.status_of(work, debug=False) == 2
    found = capsys.readouterr()
    assert found.out == "read \\x1b[2Ja\\xff.jpg\n"
    assert found.err == "error: no \\x1b]0;title\\x07 in it\nand on\n"


def test_faults_of_files_of_any_name_are_listed(tmp_path, capsys):
    for name in NAMES:
        for ending in (b".json", b".png"):
            with open(os.path.join(os.fsencode(tmp_path), name + ending), "wb") as file:
                file.write(b"{")
    points = [[2, 2], [9, 2], [9, 9]]
    shapes = [{"label": "a", "points": points, "shape_type": "polygon"}]
    sound = {"shapes": shapes, "imagePath": "s.png", "imageHeight": 12, "imageWidth": 12}
    (tmp_path / "s.json").write_text(json.dumps(sound))
    Image.new("RGB", (12, 12)).save(tmp_path / "s.png")
    arguments = ["check", "--format=labelme", f"--folder={tmp_path}", "--class_names=a"]
    assert main(arguments) == 1
    found = capsys.readouterr()
    shown = found.out + found.err
    for name in ("M\\xfcller", "\\x1b[2Jx", "größe"):
        assert f"{name}.json" in shown
    assert "\x1b" not in shown
    assert sys.stdout.write("") == 0  # the streams are those of before


def test_output_that_nobody_reads_ends_a_command_in_silence():
    end, pipe = os.pipe()
    os.close(end)
    work = "lambda: print('a line', flush=True)"
    program = f"from maskrcnn_jax.cli import command; exit(command.status_of({work}, False))"
    done = subprocess.run([sys.executable, "-c", program], stdout=pipe, stderr=subprocess.PIPE)
    os.close(pipe)
    assert done.stderr == b""
    assert done.returncode == 141


def test_another_broken_pipe_is_an_error(capsys):
    def work():
        raise BrokenPipeError("a connection was closed")

    assert command.status_of(work, debug=False) == 2
    assert capsys.readouterr().err == "error: a connection was closed\n"
