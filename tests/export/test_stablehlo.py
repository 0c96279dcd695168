"""The StableHLO file: equal to the bit, for any batch, and with jax alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maskrcnn_jax.export import stablehlo
from maskrcnn_jax.export.comparison import compare
from maskrcnn_jax.export.formats import Options, batched, check, convert
from tests.export.nets import SHAPE, detector, examples
from tests.xla_flags import batches_round_alike, run_as_users_compile

OPTIONS = Options("stablehlo", SHAPE, batch=None)
# One unit in the last place of a coordinate of 128 pixels, where batches round differently.
ROUNDING = 0.0 if batches_round_alike() else 128 * 2**-23


@pytest.fixture(scope="module")
def content() -> bytes:
    return convert(detector("torchvision_v1"), OPTIONS)


def test_equal_for_any_batch(content):
    """Three images: a pair and a single one."""
    made = detector("torchvision_v1")
    agreement, _ = check(content, made, examples(made, 3), OPTIONS)
    assert agreement.detections >= 20
    *errors, unlike = agreement[2:]
    assert unlike == 0
    assert max(errors) <= ROUNDING


@pytest.mark.slow  # in a process of its own
def test_equal_to_the_bit_as_users_compile():
    run_as_users_compile("tests/export/test_stablehlo.py::test_equal_for_any_batch")


def test_is_for_three_platforms(content):
    program = stablehlo.export.deserialize(bytearray(content))
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert [str(x) for x in program.in_avals[0].shape] == ["batch", *map(str, SHAPE), "3"]


def test_runs_with_jax_alone(content, tmp_path):
    """In a process that can import neither this package nor Flax."""
    made = detector("torchvision_v1")
    (image, size) = examples(made, 1)[0]
    (tmp_path / "detector.stablehlo").write_bytes(content)
    np.savez(tmp_path / "input.npz", image=image[None], size=size[None])
    script = (
        "import pathlib, sys\n"
        "sys.modules |= dict.fromkeys(('flax', 'maskrcnn_jax', 'ml_collections'))\n"
        "import jax, numpy as np\n"
        "given = np.load('input.npz')\n"
        "program = jax.export.deserialize(pathlib.Path('detector.stablehlo').read_bytes())\n"
        "np.savez('found.npz', **program.call(given['image'], given['size']))\n"
    )
    script = script.replace("import jax,", "import jax.export,")
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    found = stablehlo.found(dict(np.load(Path(tmp_path) / "found.npz")))
    compare(made.run()(image[None], size[None]), found)


def test_batches():
    """Batches of five images: padded, or pairs and the odd one."""
    given = [(np.full((2, 2, 1), i, np.uint8), np.float32([2, i])) for i in range(1, 6)]
    fixed = list(batched(given, 4))
    assert [(len(image), len(size), number) for image, size, number in fixed] == [
        (4, 4, 4),
        (4, 4, 1),
    ]
    assert fixed[1][0][:, 0, 0, 0].tolist() == [5, 0, 0, 0]
    assert fixed[1][1][:, 1].tolist() == [5, 5, 5, 5]
    assert [number for _, _, number in batched(given, None)] == [2, 2, 1]
