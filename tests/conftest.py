"""Options, data sets and the compilation cache of the test suite."""

import gc
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Compilation dominates the suite, and LLVM's costly passes are a third of it. With 0 the tests run
# the machine code that users run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

from tests.xla_flags import with_older_emitters

os.environ["XLA_FLAGS"] = with_older_emitters(os.environ)

import jax
import pytest

from tests.datasets import generated

ROOT = Path(__file__).resolve().parents[1]

# Compiled programs are kept between runs.
_CACHE = str(ROOT / ".cache" / "jax-tests")
jax.config.update("jax_compilation_cache_dir", _CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

# What JAX traces is kept, and looking through it for garbage at Python's pace takes a tenth of it.
gc.set_threshold(50_000, 20, 100)


def pytest_addoption(parser):
    parser.addoption(
        "--accelerator_forms",
        choices=("gpu", "tpu"),
        help="compute everything in the forms for one, on whatever device there is",
    )
    parser.addoption(
        "--parity",
        default=str(ROOT / "tests" / "parity" / "values"),
        metavar="DIR",
        help="other reference values (ops.npz, mrcnn_*.npz) than those of tests/parity",
    )
    parser.addoption(
        "--datasets",
        metavar="DIR",
        help="folder with coco_mini/, cst.zip, labelme_voc/ and nuclei_dsb2018.zip, to be read "
        "instead of small data sets that are generated or lie in tests/datasets",
    )


# Folders of the longest files: where they come last, one core works and the others wait.
_FIRST = ("end_to_end", "training", "pretrained", "benchmarks")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Puts the longest files first, and leaves out tests of a full disk.

    Where no disk can be mounted, one of those remains and says why.
    """
    places = {name: place for place, name in enumerate(_FIRST)}
    items.sort(key=lambda item: places.get(item.path.relative_to(ROOT).parts[1], len(places)))
    of_full_disk = [item for item in items if "small_disk" in item.fixturenames][1:]
    if of_full_disk and os.geteuid() != 0:
        items[:] = [item for item in items if item not in of_full_disk]
        config.hook.pytest_deselected(items=of_full_disk)


@pytest.fixture(autouse=True)
def one_compilation_cache():
    """The next test finds the suite's cache, whichever one a command of this test has chosen."""
    yield
    jax.config.update("jax_compilation_cache_dir", _CACHE)


@pytest.fixture(scope="session", autouse=True)
def forms_of_the_session(request):
    """With `--accelerator_forms`, every test computes in those."""
    kind = request.config.getoption("--accelerator_forms")
    if not kind:
        yield
        return
    with _accelerator_forms(kind) as taken:
        yield
    assert taken


@pytest.fixture(scope="session")
def accelerator_forms() -> Callable:
    """Returns a context manager; what is traced in it takes the forms for a `gpu` or a `tpu`.

    It gives the list of those that were taken. Kernels for TPUs are interpreted.
    """
    return _accelerator_forms


@contextmanager
def _accelerator_forms(kind: str = "gpu") -> Iterator[list[Callable]]:
    from jax.experimental.pallas.tpu import force_tpu_interpret_mode

    taken = []

    def take(*operands, default, **forms):
        form = forms.get(kind, default)
        taken.append(form)
        return form(*operands)

    with pytest.MonkeyPatch.context() as patch, force_tpu_interpret_mode():
        patch.setattr(jax.lax, "platform_dependent", take)
        yield taken


@pytest.fixture(scope="session")
def parity_dir(request) -> Path:
    """The folder of reference values."""
    return Path(request.config.getoption("--parity"))


@pytest.fixture(scope="session")
def small_nuclei_dir() -> Path:
    """Twelve images of nuclei: train/ and val/ in folders of masks, labelme/."""
    return ROOT / "tests" / "datasets" / "nuclei"


@pytest.fixture(scope="session")
def nuclei_dir(request, small_nuclei_dir, tmp_path_factory) -> Path:
    """Nuclei in folders of masks, train/ and val/: all of --datasets, or twelve images."""
    if archive := _given(request, "nuclei_dsb2018.zip"):
        return _unpacked(archive, tmp_path_factory.mktemp("nuclei")) / "nuclei_dsb2018"
    return small_nuclei_dir


@pytest.fixture(scope="session")
def coco_dir(request, tmp_path_factory) -> Path:
    """A data set in COCO's layout, train2017 and val2017: of --datasets, or a generated one."""
    return _given(request, "coco_mini") or generated.coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="session")
def cst_dir(request, tmp_path_factory) -> Path:
    """A data set in CST's layout: of --datasets, or a generated one."""
    if archive := _given(request, "cst.zip"):
        return _unpacked(archive, tmp_path_factory.mktemp("cst")) / "cst"
    return generated.cst(tmp_path_factory.mktemp("cst"))


@pytest.fixture(scope="session")
def labelme_voc_dir(request, tmp_path_factory) -> Path:
    """Three pictures with the same instances in labelme/, voc/ and coco/."""
    return _given(request, "labelme_voc") or generated.labelme_voc(tmp_path_factory.mktemp("three"))


def _given(request, name: str) -> Path | None:
    """The data set of that name in the folder that --datasets names, if any is named."""
    folder = request.config.getoption("--datasets")
    if folder is None:
        return None
    path = Path(folder, name)
    if not path.exists():
        pytest.skip(f"{path} not found; leave --datasets out to use a small data set instead")
    return path


def _unpacked(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    return folder
