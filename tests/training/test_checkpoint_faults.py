"""What a checkpoint can suffer: a full disk, a lost file, a changed byte, a missing folder."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from maskrcnn_jax.checkpoints import format as checkpoint_format
from maskrcnn_jax.checkpoints.checksums import checksums, differing
from maskrcnn_jax.checkpoints.folder import DamagedCheckpoint
from maskrcnn_jax.checkpoints.load import load_for_inference
from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.checkpoints.resume import metadata_to_resume
from maskrcnn_jax.checkpoints.state import create
from maskrcnn_jax.config import get_config
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.parallel.mesh import abstract
from maskrcnn_jax.training.run import preflight


def _metadata():
    facts = {"class_names": ("a",), "category_ids": (1,), "num_images": 1}
    return {"config": get_config(), **facts}


def _state(step, size=4096):
    """Numbers that compress badly, as weights do."""
    numbers = np.random.default_rng(step).normal(size=size).astype(np.float32)
    return create({"params": {"w": jnp.asarray(numbers)}}, optax.trace(0.9))


@pytest.fixture
def opened():
    """Gives the checkpoints of a folder, and closes them in the end."""
    all_opened = []

    def make(workdir, keep=3):
        all_opened.append(Checkpoints(workdir, keep, _metadata()))
        return all_opened[-1]

    yield make
    for checkpoints in all_opened:
        checkpoints.close()


@pytest.fixture
def saved(tmp_path, opened):
    """A folder with the steps 1, 2 and 3."""
    checkpoints = opened(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(_state(step), step, {})
    checkpoints.wait()
    return tmp_path


def _target(mesh):
    return abstract(_state(0), mesh)


def _steps(workdir, folder="checkpoints"):
    return sorted(path.name for path in (workdir / folder).iterdir())


def _newest_sound(checkpoints, mesh):
    """What `first_state.newest` does, without a configuration."""
    while True:
        try:
            return checkpoints.restore(_target(mesh)), checkpoints.latest_step()
        except DamagedCheckpoint as damaged:
            checkpoints.set_aside(damaged)


def _largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def _cut(folder):
    file = _largest_file(folder)
    os.truncate(file, file.stat().st_size // 2)


def _flip(folder):
    file = _largest_file(folder)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGES = {
    "cut": (_cut, ""),
    "flipped": (_flip, "of 1 arrays in .* are not what was saved, such as"),
    "emptied": (_empty, ""),
    "no metadata": (lambda folder: shutil.rmtree(folder / "metadata"), ""),
    "no optimizer": (lambda folder: shutil.rmtree(folder / "optimizer"), "arrays in optimizer"),
    "no manifest": (lambda folder: (folder / "variables/manifest.ocdbt").unlink(), ""),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_set_aside(saved, opened, one_device_mesh, capfd, kind):
    damage, why = DAMAGES[kind]
    damage(saved / "checkpoints" / "3")
    checkpoints = opened(saved)
    with pytest.raises(DamagedCheckpoint, match=f"checkpoints/3 is damaged: .*{why}"):
        checkpoints.restore(_target(one_device_mesh))
    state, step = _newest_sound(checkpoints, one_device_mesh)
    assert step == 2
    np.testing.assert_array_equal(state.params["w"], _state(2).params["w"])
    assert _steps(saved) == ["1", "2"]
    assert _steps(saved, "damaged") == ["3"]
    said = capfd.readouterr().err
    assert "checkpoints/3 is damaged" in said
    assert "the run resumes from step 2" in said
    # The step is saved again when the run comes to it.
    assert checkpoints.save(_state(3), 3, {}) is True
    checkpoints.wait()
    assert _steps(saved) == ["1", "2", "3"]


def test_the_last_checkpoint_is_never_set_aside(saved, opened, one_device_mesh):
    for step in "123":
        _cut(saved / "checkpoints" / step)
    for _ in range(2):  # nor when the run is started once more
        with pytest.raises(ValueError, match=r"checkpoints/1 is damaged.* no older one"):
            _newest_sound(opened(saved), one_device_mesh)
    assert _steps(saved) == ["1"]
    assert _steps(saved, "damaged") == ["2", "3"]


def test_what_a_run_began_with_is_read_from_the_newest_that_can_be(saved):
    (saved / "checkpoints" / "3" / "metadata" / "metadata").write_text('{"config": ')
    assert metadata_to_resume(saved)["step"] == 2
    for step in "12":
        shutil.rmtree(saved / "checkpoints" / step / "metadata")
    with pytest.raises(
        ValueError, match=r"none of the checkpoints .*/checkpoints/3: Expect.*/1: Item"
    ):
        metadata_to_resume(saved)


def test_no_damage_is_seen_in_an_error_that_passes(saved, opened, one_device_mesh, monkeypatch):
    checkpoints = opened(saved)

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(checkpoints._last.manager, "restore", fail)
    with pytest.raises(OSError, match="Input/output error"):
        checkpoints.restore(_target(one_device_mesh))


def test_inference_refuses_damaged_weights(tmp_path, tiny_config, capfd):
    shapes = abstract_variables(make_model(tiny_config.model, 1))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype), shapes)
    checkpoints = Checkpoints(tmp_path, 1, {**_metadata(), "config": tiny_config})
    checkpoints.save(create(variables, optax.identity()), 1, {})
    checkpoints.close()
    assert jax.tree.all(jax.tree.map(np.array_equal, load_for_inference(tmp_path)[0], variables))
    folder, kept = tmp_path / "checkpoints" / "1", tmp_path / "kept"
    shutil.copytree(folder, kept)
    damages = {
        "flipped": (_flip, r"variables are not what was saved"),
        "cut": (_cut, "."),
        "emptied": (_empty, "."),
        "no metadata": DAMAGES["no metadata"],
    }
    for damage, fault in damages.values():
        damage(folder / "variables" if damage in (_flip, _cut, _empty) else folder)
        with pytest.raises(ValueError, match=rf"checkpoints/1.*{fault}") as raised:
            load_for_inference(tmp_path)
        assert len(str(raised.value)) < 600
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
    assert "Traceback" not in capfd.readouterr().err


def test_a_run_goes_on_where_its_newest_was_deleted(tmp_path, opened, capsys, one_device_mesh):
    checkpoints = opened(tmp_path)
    for step, score in ((1, 0.2), (2, 0.5)):
        checkpoints.save(_state(step), step, {})
        checkpoints.save_best(_state(step), step, {"segm/AP": score}, "segm/AP")
    shutil.rmtree(tmp_path / "checkpoints" / "2")
    checkpoints = opened(tmp_path)
    assert checkpoints.latest_step() == 1
    assert checkpoints.best() == (2, {"segm/AP": 0.5})
    # The same run comes to the same best again.
    checkpoints.save(_state(2), 2, {})
    assert checkpoints.save_best(_state(2), 2, {"segm/AP": 0.5}, "segm/AP") is False
    assert _steps(tmp_path, "best") == ["2"]


def test_a_better_one_replaces_a_best_of_later(tmp_path, opened):
    checkpoints = opened(tmp_path)
    for step, score in ((1, 0.2), (3, 0.5)):
        checkpoints.save(_state(step), step, {})
        checkpoints.save_best(_state(step), step, {"segm/AP": score}, "segm/AP")
    shutil.rmtree(tmp_path / "checkpoints" / "3")
    checkpoints = opened(tmp_path)
    checkpoints.save(_state(2), 2, {})
    assert checkpoints.save_best(_state(2), 2, {"segm/AP": 0.6}, "segm/AP") is True
    assert checkpoints.best() == (2, {"segm/AP": 0.6})
    assert _steps(tmp_path, "earlier") == ["3"]


def _fail_writing(monkeypatch):
    """The next checkpoint fails in the background, as on a full disk."""
    original = ocp.StandardCheckpointHandler.finalize

    def finalize(self, directory):
        monkeypatch.setattr(ocp.StandardCheckpointHandler, "finalize", original)
        raise OSError(errno.ENOSPC, "No space left on device", str(directory))

    monkeypatch.setattr(ocp.StandardCheckpointHandler, "finalize", finalize)


def test_training_survives_a_checkpoint_that_fails(saved, opened, capfd, monkeypatch):
    checkpoints = opened(saved, keep=2)
    _fail_writing(monkeypatch)
    assert checkpoints.save(_state(4), 4, {}) is True
    checkpoints.wait()
    said = capfd.readouterr().err
    assert "WARNING: the checkpoint of step 4 could not be written to" in said
    assert "no space left on device" in said
    assert "The one of step 3 stands; training continues" in said
    assert checkpoints.failures() == 1
    assert checkpoints.latest_step() == 3
    assert _steps(saved) == ["1", "2", "3"]  # no older one went, and nothing half written stays
    checkpoints.save(_state(5), 5, {})
    checkpoints.wait()
    assert _steps(saved) == ["3", "5"]
    assert checkpoints.failures() == 1


def test_a_failure_is_seen_without_another_save(saved, opened, monkeypatch):
    checkpoints = opened(saved)
    _fail_writing(monkeypatch)
    checkpoints.save(_state(4), 4, {})
    deadline = time.monotonic() + 60
    while not checkpoints.failures() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert checkpoints.failures() == 1


def test_the_last_state_is_tried_once_more(saved, opened, monkeypatch):
    checkpoints = opened(saved)
    _fail_writing(monkeypatch)
    checkpoints.save(_state(4), 4, {})
    checkpoints.check_complete(_state(4), 4, {})
    assert checkpoints.latest_step() == 4

    def fail(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    checkpoints._last.manager.save = fail
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_format, "make_manager", fail)
        with pytest.raises(OSError, match=r"after step 5 could not be saved .* is of step 4, in"):
            checkpoints.check_complete(_state(5), 5, {})


def test_a_full_disk(small_disk, opened, capfd, one_device_mesh):
    checkpoints = opened(small_disk, keep=2)
    filler = small_disk / "filler"
    for step in (1, 2):
        checkpoints.save(_state(step, 10_000), step, {})
    checkpoints.wait()
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 40_000))
    checkpoints.save(_state(3, 10_000), 3, {})
    checkpoints.save(_state(4, 10_000), 4, {})
    checkpoints.wait()
    assert checkpoints.failures() == 2
    said = capfd.readouterr().err
    assert said.count("no space left on device") == 2
    assert "MiB free; make room). The one of step 2 stands" in said
    assert _steps(small_disk) == ["1", "2"]
    filler.unlink()
    checkpoints.save(_state(5, 10_000), 5, {})
    checkpoints.wait()
    assert _steps(small_disk) == ["2", "5"]
    state = checkpoints.restore(abstract(_state(0, 10_000), one_device_mesh))
    np.testing.assert_array_equal(state.params["w"], _state(5, 10_000).params["w"])


def test_the_probe_says_what_is_in_the_way(tmp_path, small_disk):
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "run"):
        with pytest.raises(OSError, match=r"cannot be written.*A file of that name is in the way"):
            preflight.check_writable(folder, _state(0), 3)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best").touch()
    with pytest.raises(OSError, match=r"run/best\)\. A file of that name"):
        preflight.check_writable(tmp_path / "run", _state(0), 3)
    with pytest.raises(OSError, match=r"takes 3\.8 MiB, but .* only 1\.0 MiB are free"):
        preflight.check_writable(small_disk, _state(0, 500_000), 3)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OSError, match=r"Read-only file system .*give another --workdir"):
        preflight.check_writable(small_disk, _state(0), 3)


def test_the_probe_warns_of_too_little_room(small_disk, capfd):
    preflight.check_writable(small_disk, _state(0, 40_000), 3)
    assert "up to 6 more checkpoints of 0.3 MiB" in capfd.readouterr().err
    assert _steps(small_disk, "checkpoints") == _steps(small_disk, "best") == []
    preflight.check_writable(small_disk, _state(0, 4_000), 3)
    assert capfd.readouterr().err == ""


def test_sums_see_every_change_and_no_sharing_out():
    rng = np.random.default_rng(0)
    tree = {
        "half": jnp.asarray(rng.normal(size=(3, 5)), jnp.bfloat16),
        "float": jnp.asarray(rng.normal(size=(7, 2, 3)), jnp.float32),
        "count": jnp.int32(-3),
        "flag": jnp.array([True, False]),
        "none": jnp.zeros((0, 4)),
    }
    sums = checksums(tree)
    bits = np.asarray(tree["float"]).view(np.uint32).astype(object).ravel()
    assert sums["float"] == sum((2 * i + 1) * int(b) for i, b in enumerate(bits)) % 2**32
    assert sums["none"] == 0
    for key, change in (("half", tree["half"].at[2, 4].add(1)), ("flag", tree["flag"][::-1])):
        assert differing(checksums({**tree, key: change}), sums) == [key]
    swapped = tree["float"].at[0, 0].set(tree["float"][0, 0, ::-1])
    assert differing(checksums({**tree, "float": swapped}), sums) == ["float"]
    assert differing(checksums({"flag": tree["flag"]}), {}) == ["flag"]


def test_leaving_in_time_says_what_stands(saved):
    code = (
        "import time; from pathlib import Path\n"
        "from maskrcnn_jax.training.run.emergency import leaves_in_time\n"
        "with leaves_in_time(60, 15, Path('.')): pass\n"
        f"with leaves_in_time(0.2, 15, Path({str(saved / 'checkpoints')!r})): time.sleep(60)\n"
    )
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=50
    )
    assert ended.returncode == 128 + 15
    assert "could not be saved within 0.2 s" in ended.stderr
    assert "The last complete checkpoint is of step 3" in ended.stderr
