"""A wheel of the package, installed elsewhere, has the commands and the recipes, and works."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

from maskrcnn_jax import recipes

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (
    "configs",
    "LICENSE",
    "maskrcnn_jax",
    "pyproject.toml",
    "README.md",
    "requirements-light.txt",
    "setup.py",
)


def _run(*command, cwd, **variables) -> str:
    """Returns what a command that must succeed has printed."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"JAX_PLATFORMS": "cpu", **variables}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The folder of programs of a fresh environment with the wheel and this one's libraries."""
    folder = tmp_path_factory.mktemp("wheel")
    clean = folder / "source"  # no build/ of an earlier version
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        clean.mkdir(exist_ok=True)
        copy(ROOT / name, clean / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheels = folder / "wheels"
    _run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, clean, cwd=folder)
    _run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    (wheel,) = wheels.glob("*.whl")
    python = folder / "venv" / "bin" / "python"
    _run(*pip, "--python", python, "install", "--no-deps", wheel, cwd=folder)
    site = _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(site.strip(), "libraries.pth").write_text("\n".join(paths) + "\n")
    return python.parent


@pytest.mark.slow
def test_the_package_works_where_it_is_installed(programs, tmp_path):
    where = "import maskrcnn_jax; print(maskrcnn_jax.__file__)"
    found = _run(programs / "python", "-c", where, cwd=tmp_path)
    assert Path(found.strip()).is_relative_to(programs.parent)

    few = ("--config.data.train.count=3", "--config.data.val.count=2")
    said = _run(programs / "maskrcnn-data", "check", "--config=shapes", *few, cwd=tmp_path)
    assert "shapes-0: 3 images" in said
    assert "maskrcnn_jax" in _run(programs / "maskrcnn-doctor", "--help", cwd=tmp_path)

    tiny = f"--config={ROOT / 'tests/end_to_end/tiny.py'}"
    cache = f"--compilation_cache={jax.config.jax_compilation_cache_dir}"
    train = ("--workdir=run", "--config.train.steps=1", cache)
    said = _run(programs / "maskrcnn-train", tiny, *train, cwd=tmp_path)
    assert "  maskrcnn-eval --workdir=run --checkpoint=best" in said
    assert "python" not in said.split("next:")[1]
    assert "AP" in _run(programs / "maskrcnn-eval", "--workdir=run", cache, cwd=tmp_path)

    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "image.png"), image)
    _run(programs / "maskrcnn-predict", "--workdir=run", "image.png", cache, cwd=tmp_path)
    assert (tmp_path / "predictions" / "predictions.json").is_file()
    assert (tmp_path / "predictions" / "image.png").is_file()


@pytest.mark.slow
def test_a_mistyped_recipe_names_those_of_the_wheel(programs, tmp_path):
    command = [str(programs / "maskrcnn-train"), "--config=shape"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "error: --config=shape: there is no such recipe; did you mean shapes? the recipes are "
        f"{', '.join(recipes.names())}; a file of your own is given by its path\n"
    )
