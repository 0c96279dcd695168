"""What says that it needs TensorFlow where that is not installed; `test_train.py` trains there."""

from tests.forked import NO_TENSORFLOW, run

TINY = "--config=tests/end_to_end/tiny.py"


def test_what_needs_them_says_so_in_a_line(tmp_path):
    wanted = ("--config.data.engine=tfdata", f"--workdir={tmp_path / 'run'}")
    arguments = ("train.py", "--compilation_cache=off", TINY, *wanted)
    status, _, err = run(*arguments, prelude=NO_TENSORFLOW)
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: config.data.engine is 'tfdata', but TensorFlow is not installed")

    prepare = ("prepare", TINY, f"--out={tmp_path / 'out'}")
    status, _, err = run("-m", "maskrcnn_jax.data", *prepare, prelude=NO_TENSORFLOW)
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line == (
        "error: this needs the package tensorflow_datasets, which is not installed: "
        "pip install -r requirements.txt"
    )
