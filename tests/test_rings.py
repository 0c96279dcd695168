"""What each package may import: in its own lines, and through others in a process of its own."""

import ast
import json
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "maskrcnn_jax"

_HOST_ONLY = ("tensorflow", "tensorflow_datasets", "pycocotools")
_JAX = ("jax", "flax", "optax", "orbax")
_UPPER = tuple(
    f"maskrcnn_jax.{name}"
    for name in ("cli", "doctor", "evaluation", "inference", "inspect", "predict", "visualization")
)
FORBIDDEN = {
    "ops": (*_HOST_ONLY, "flax", "ml_collections", "orbax", "maskrcnn_jax.models"),
    "parallel": (*_HOST_ONLY, "flax", "orbax", "maskrcnn_jax.models", "maskrcnn_jax.ops"),
    "models": (
        *_HOST_ONLY,
        *_UPPER,
        "orbax",
        "maskrcnn_jax.data",
        "maskrcnn_jax.checkpoints",
        "maskrcnn_jax.training",
    ),
    "checkpoints": (
        *_HOST_ONLY,
        *_UPPER,
        "maskrcnn_jax.data",
        "maskrcnn_jax.pretrained",
        "maskrcnn_jax.training",
    ),
    "pretrained": (*_HOST_ONLY, *_UPPER, "maskrcnn_jax.data", "maskrcnn_jax.training"),
    "training": (*_HOST_ONLY, *_UPPER, "maskrcnn_jax.data"),
    "hub": (*_HOST_ONLY, *_UPPER, "maskrcnn_jax.data", "maskrcnn_jax.training"),
    "inference": (
        *_HOST_ONLY,
        "maskrcnn_jax.data",
        "maskrcnn_jax.training",
        "maskrcnn_jax.predict",
    ),
    "predict": (*_HOST_ONLY, "maskrcnn_jax.data", "maskrcnn_jax.training", "maskrcnn_jax.cli"),
    "export": (
        *_HOST_ONLY,
        *(name for name in _UPPER if name != "maskrcnn_jax.inference"),
        "maskrcnn_jax.data",
        "maskrcnn_jax.training",
    ),
    "plan": (
        *_HOST_ONLY,
        *(name for name in _UPPER if name != "maskrcnn_jax.inference"),
        "maskrcnn_jax.pretrained",
    ),
    "images": (*_HOST_ONLY, *_JAX, *_UPPER, "maskrcnn_jax.data"),
    "data": (*_JAX, "maskrcnn_jax.models", "maskrcnn_jax.parallel", "maskrcnn_jax.training"),
}
# The only module with TensorFlow, which itself imports JAX where that is installed. The modules of
# prepared datasets have tensorflow-datasets, which imports neither to read ArrayRecord files, and
# TensorFlow only to write more than fits into memory.
TFDATA = PACKAGE / "data" / "input" / "tfdata.py"


# No module imports a `__main__.py`, which hands over to a command of `cli`.
_ENTRANCES = ("__init__.py", "__main__.py")


def _modules(package: str) -> list[Path]:
    return sorted(p for p in (PACKAGE / package).rglob("*.py") if p.name not in _ENTRANCES)


def _imports(path: Path) -> set[str]:
    """Returns what a file imports anywhere, also within functions, with all parent packages.

    What stands under `if TYPE_CHECKING:` is never imported, nor what the module does as a program.
    """
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not _is_for_types(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {".".join(name.split(".")[:n]) for name in found for n in range(1, name.count(".") + 2)}


def _is_for_types(node: ast.stmt) -> bool:
    tests = ("TYPE_CHECKING", "__name__ == '__main__'")
    return isinstance(node, ast.If) and ast.unparse(node.test) in tests


def _is_of(name: str, packages: tuple[str, ...]) -> bool:
    """Returns whether a module is of one of the packages; their settings are everybody's."""
    is_settings = name.rpartition(".")[2] in ("config", "layer_groups")
    return not is_settings and any(name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_line_imports_across_the_rings(package):
    modules = _modules(package)
    assert modules
    crossing = {path.name: _imports(path) & set(FORBIDDEN[package]) for path in modules}
    assert {name: names for name, names in crossing.items() if names} == {}


# Imports each package in a fork of its own: what takes longest to import is there already. Packages
# without JAX come first.
_LOADED = """
import importlib, json, os, sys
for package, first, names in json.loads(sys.argv[1]):
    importlib.import_module(first)
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0, package
        continue
    for name in names:
        importlib.import_module(name)
    print(json.dumps([package, sorted(sys.modules)]), flush=True)
    os._exit(0)
"""


def _names(package: str) -> list[str]:
    paths = [path for path in _modules(package) if path != TFDATA]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """For each package, the modules that are loaded once all of its own are."""
    asked = [
        (package, "numpy" if "jax" in forbidden else "jax", _names(package))
        for package, forbidden in FORBIDDEN.items()
    ]
    asked.sort(key=lambda item: item[1] == "jax")
    command = [sys.executable, "-c", _LOADED, json.dumps(asked)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    lines = [line for line in process.stdout.splitlines() if line.startswith("[")]
    return {package: set(modules) for package, modules in map(json.loads, lines)}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_nothing_across_the_rings_is_loaded(loaded, package):
    names, loaded = _names(package), loaded[package]
    assert set(names) <= loaded
    forbidden = FORBIDDEN[package]
    outside = {name for name in forbidden if not name.startswith("maskrcnn_jax")}
    crossing = loaded & outside | {name for name in loaded if _is_of(name, forbidden)}
    assert crossing == set()


def test_only_its_engine_of_batches_imports_tensorflow():
    importers = {path for path in PACKAGE.rglob("*.py") if "tensorflow" in _imports(path)}
    assert importers == {TFDATA}


def test_only_prepared_datasets_import_tensorflow_datasets():
    importers = {path for path in PACKAGE.rglob("*.py") if "tensorflow_datasets" in _imports(path)}
    names = ("builder.py", "reader.py", "tfds_coco.py", "tfrecords.py")
    expected = {PACKAGE / "data" / "prepared" / name for name in names}
    assert importers == {*expected, PACKAGE / "data" / "tools" / "prepare.py"}


def test_formats_are_listed_without_tensorflow():
    """Whose packages take seconds to import, and are needed for batches and prepared datasets."""
    script = "import sys, maskrcnn_jax.data.datasets; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"tensorflow", "tensorflow_datasets"} & set(process.stdout.split())


def _module_imports() -> dict[str, set[str]]:
    """Returns the modules of the package that each of its modules imports, types alone aside."""
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
        if path.name not in _ENTRANCES
    }
    return {name: _imports(path) & paths.keys() for name, path in paths.items()}


def _circles(imports: dict[str, set[str]]) -> list[str]:
    """Returns those that reach themselves by what they import."""

    def reached(name: str) -> set[str]:
        found, waiting = set(), [name]
        while waiting:
            new = imports.get(waiting.pop(), set()) - found
            found |= new
            waiting += new
        return found

    return sorted(name for name in imports if name in reached(name))


def test_circles_are_found():
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]


def test_no_circle_of_files():
    assert _circles(_module_imports()) == []


def test_no_circle_of_packages():
    """A module beside the packages counts as one of its own."""
    packages: dict[str, set[str]] = {}
    for name, imported in _module_imports().items():
        package = name.split(".")[1]
        others = {other.split(".")[1] for other in imported}
        packages.setdefault(package, set()).update(others - {package})
    assert _circles(packages) == []


def test_only_commands_import_the_export():
    """Which alone needs onnx and onnxruntime; two of them take its ways to load a detector."""
    importers = {
        name
        for name, imported in _module_imports().items()
        if any(other.startswith("maskrcnn_jax.export.") for other in imported)
    }
    others = {name for name in importers if not name.startswith("maskrcnn_jax.export.")}
    assert others == {f"maskrcnn_jax.cli.{name}" for name in ("export", "hub", "serve")}


_NO_CODE = (
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
)


def _code_lines(path: Path) -> int:
    """Returns how many lines of a file are neither blank nor a comment nor a docstring."""
    lines: set[int] = set()
    with path.open("rb") as file:
        for token in list(tokenize.tokenize(file.readline))[1:]:  # the first is the encoding
            if token.type not in _NO_CODE:
                lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def test_code_lines_are_counted(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '"""Doc\n\nstring."""\n\n# why\nX = (\n    1,\n)\n\n\ndef f():\n    """Doc."""\n'
    )
    assert _code_lines(path) == 4


def test_prediction_is_short_enough_to_be_read():
    """What a program that predicts imports of the package; it grows where somebody looks away."""
    script = (
        "import sys, maskrcnn_jax.inference.predictor\n"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'maskrcnn_jax'))"
    )
    command = [sys.executable, "-c", script]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = {path: _code_lines(Path(path)) for path in process.stdout.split()}
    assert len(lines) > 20
    # Of cascades, PointRend and keypoints only the settings are among them.
    assert sum(lines.values()) <= 3500, sorted(lines.items(), key=lambda item: -item[1])


def test_no_folder_is_crowded():
    folders = {path for path in PACKAGE.rglob("*") if path.is_dir()} | {PACKAGE}
    crowded = {folder.name: len(list(folder.glob("*.py"))) for folder in folders}
    assert {name: number for name, number in crowded.items() if number > 16} == {}


def test_forms_follow_the_target_and_not_the_host():
    """`jax.default_backend()` inside a traced function makes a program for where it is traced."""
    asking = [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if "cli" not in path.relative_to(PACKAGE).parts  # commands run on the host
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "default_backend"
    ]
    assert asking == []
