"""What each package may import: in its own lines, and through others in a process of its own."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "maskrcnn_jax"

_HOST_ONLY = ("tensorflow", "tensorflow_datasets", "pycocotools")
FORBIDDEN = {
    "ops": (*_HOST_ONLY, "flax", "ml_collections", "orbax", "maskrcnn_jax.models"),
    "models": (*_HOST_ONLY, "orbax", "maskrcnn_jax.data", "maskrcnn_jax.training"),
    "training": (*_HOST_ONLY, "maskrcnn_jax.data", "maskrcnn_jax.evaluation"),
    "inference": _HOST_ONLY,
    "data": ("jax", "flax", "maskrcnn_jax.models", "maskrcnn_jax.training"),
}
# The only module with TensorFlow, which itself imports JAX where that is installed. The modules of
# prepared datasets have tensorflow-datasets, which imports neither to read ArrayRecord files, and
# TensorFlow only to write more than fits into memory.
PIPELINE = PACKAGE / "data" / "pipeline.py"


def _modules(package: str) -> list[Path]:
    return sorted(path for path in (PACKAGE / package).rglob("*.py") if path.name != "__init__.py")


def _imports(path: Path) -> set[str]:
    """Returns what a file imports anywhere, also within functions, with all parent packages."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {".".join(name.split(".")[:n]) for name in found for n in range(1, name.count(".") + 2)}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_line_imports_across_the_rings(package):
    modules = _modules(package)
    assert modules
    crossing = {path.name: _imports(path) & set(FORBIDDEN[package]) for path in modules}
    assert {name: names for name, names in crossing.items() if names} == {}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_nothing_across_the_rings_is_loaded(package):
    paths = [path for path in _modules(package) if path != PIPELINE]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    script = (
        "import importlib, json, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    command = [sys.executable, "-c", script]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    loaded = set(json.loads(process.stdout.splitlines()[-1]))
    assert set(names) <= loaded
    assert loaded & set(FORBIDDEN[package]) == set()


def test_only_the_pipeline_imports_tensorflow():
    importers = {path for path in PACKAGE.rglob("*.py") if "tensorflow" in _imports(path)}
    assert importers == {PIPELINE}


def test_only_prepared_datasets_import_tensorflow_datasets():
    importers = {path for path in PACKAGE.rglob("*.py") if "tensorflow_datasets" in _imports(path)}
    names = ("tfds_builder.py", "tfds_coco.py", "tfds_reader.py", "tfrecords.py")
    assert importers == {PACKAGE / "data" / name for name in names}


def test_formats_are_listed_without_tensorflow():
    """Whose packages take seconds to import, and are needed for batches and prepared datasets."""
    script = "import sys, maskrcnn_jax.data.datasets; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"tensorflow", "tensorflow_datasets"} & set(process.stdout.split())
