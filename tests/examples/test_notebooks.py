"""The notebooks are kept without output, and run from the first cell to the last."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "train_on_shapes",  # first: it trains the model that others look at
    "demo",
    "inspect_data",
    "inspect_model",
    "inspect_weights",
    "own_data",
)


def test_notebooks_are_kept_without_output():
    found = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert {path.stem for path in found} == set(NAMES)
    for path in found:
        book = json.loads(path.read_text())
        assert book["nbformat"] == 4
        for cell in book["cells"]:
            assert not cell.get("outputs"), f"{path.name}: clear all outputs before committing"
            assert cell.get("execution_count") is None


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    before = dict(os.environ)
    workdir = tmp_path_factory.mktemp("notebooks") / "run"
    os.environ |= {"NOTEBOOK_WORKDIR": str(workdir), "NOTEBOOK_STEPS": "12", "JAX_PLATFORMS": "cpu"}
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), before.get("PYTHONPATH")]))
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name, environment):
    needed = ("nbclient", "nbformat", "ipykernel", "matplotlib")
    if missing := [package for package in needed if not importlib.util.find_spec(package)]:
        pytest.skip(f"{', '.join(missing)} not installed (requirements-test.txt)")
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    place = {"metadata": {"path": str(ROOT / "notebooks")}}
    NotebookClient(book, timeout=900, resources=place).execute()
    shown = json.dumps([cell.get("outputs", []) for cell in book.cells])
    assert "image/png" in shown
    assert "Traceback" not in shown
    assert "error: " not in shown  # of a command
