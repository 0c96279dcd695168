"""A folder for any static host: the page, the model, and the runtime that computes it."""

import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maskrcnn_jax.files import write_atomically

# The version that the page was tried with.
PACKAGE = "onnxruntime-web@1.30.0"
RUNTIME = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
)
_PAGE = Path(__file__).with_name("page")
_FILES = ("index.html", "detector.js")
_TOLD = ("class_names", "license", "resize", "score_threshold", "versions")


def write(
    out: Path,
    models: Sequence[tuple[Mapping[str, Any], bytes]],
    runtime: Path | None = None,
) -> int:
    """Writes the folder; returns how many bytes a browser downloads with the first model.

    Args:
        out: a folder that is empty or does not exist.
        models: of each bucket, its description (`formats.description`) and its ONNX file.
        runtime: the npm package onnxruntime-web, as `npm pack` gives it or unpacked; None: npm
            fetches it.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the runtime is not there, or the model cannot be used by the page.
    """
    descriptions = [described for described, _ in models]
    check_usable(descriptions[0])
    with _unpacked(runtime) as folder:
        for name in RUNTIME:
            if not (folder / name).is_file():
                raise ValueError(f"{folder} has no {name}; expected the package {PACKAGE} of npm")
        (out / "runtime").mkdir(parents=True, exist_ok=True)
        for name in RUNTIME:
            shutil.copyfile(folder / name, out / "runtime" / name)
    for name in _FILES:
        shutil.copyfile(_PAGE / name, out / name)
    names = ["model_{}x{}.onnx".format(*described["bucket"]) for described in descriptions]
    for name, (_, content) in zip(names, models, strict=True):
        write_atomically(out / name, content)
    about = {key: descriptions[0][key] for key in _TOLD}
    about["models"] = [
        {"file": name, "bucket": described["bucket"]}
        for name, described in zip(names, descriptions, strict=True)
    ]
    write_atomically(out / "model.json", json.dumps(about, indent=1) + "\n")
    paths = [*_FILES, "model.json", names[0], *(f"runtime/{name}" for name in RUNTIME)]
    return sum((out / path).stat().st_size for path in paths)


def check_usable(described: Mapping[str, Any]) -> None:
    """Checks that the pictures of a browser are what a model takes.

    Raises:
        ValueError: it takes others.
    """
    if described["normalize"] != "depth":
        raise ValueError(
            f"config.data.normalize is {described['normalize']!r}, which the page of --format=web "
            "does not do; take --format=onnx"
        )
    if described["bits"] != 8 or len(described["pixel_mean"]) != 3:
        raise ValueError(
            f"--format=web is for models of RGB pictures of 8 bits, which browsers have; this one "
            f"takes {len(described['pixel_mean'])} channels of {described['bits']} bits. Take "
            "--format=onnx"
        )


@contextmanager
def _unpacked(runtime: Path | None) -> Iterator[Path]:
    """Yields the folder with the runtime's files."""
    with tempfile.TemporaryDirectory() as temporary:
        if runtime is None:
            runtime = _packed_by_npm(Path(temporary))
        if runtime.is_dir():
            inner = [runtime / "dist", runtime / "package" / "dist"]
            yield next((folder for folder in inner if folder.is_dir()), runtime)
            return
        folder = Path(temporary) / "unpacked"
        try:
            with tarfile.open(runtime) as archive:
                members = [f"package/dist/{name}" for name in RUNTIME]
                for member in members:
                    archive.extract(member, folder, filter="data")
        except (tarfile.TarError, KeyError, EOFError) as error:
            raise ValueError(
                f"--runtime={runtime} is not the package {PACKAGE} of npm: {error}"
            ) from error
        yield folder / "package" / "dist"


def _packed_by_npm(folder: Path) -> Path:
    command = ["npm", "pack", "--silent", PACKAGE]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", "") or str(error)
        raise ValueError(
            f"--format=web needs onnxruntime-web, and `{' '.join(command)}` has failed: "
            f"{detail.strip().splitlines()[-1] if detail.strip() else error}. Where npm is not at "
            "hand, run it elsewhere and give the file: --runtime=onnxruntime-web-1.30.0.tgz"
        ) from error
    return next(folder.glob("*.tgz"))
