"""What `import maskrcnn_jax` gives, and what it must not drag in."""

import subprocess
import sys

import maskrcnn_jax


def test_every_public_name_exists_and_they_are_few():
    assert len(maskrcnn_jax.__all__) <= 15
    for name in maskrcnn_jax.__all__:
        assert getattr(maskrcnn_jax, name).__name__ == name
    assert set(maskrcnn_jax.__all__) <= set(dir(maskrcnn_jax))


def _modules_after(code: str) -> set[str]:
    listing = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return set(listing.split())


def test_importing_the_package_starts_neither_jax_nor_tensorflow():
    assert not _modules_after("import maskrcnn_jax") & {"jax", "tensorflow", "pycocotools", "cv2"}


def test_inference_needs_neither_tensorflow_nor_pycocotools():
    modules = _modules_after("from maskrcnn_jax import *; import maskrcnn_jax.inference.predictor")
    assert "maskrcnn_jax.inference.predictor" in modules
    assert not modules & {"tensorflow", "pycocotools"}
