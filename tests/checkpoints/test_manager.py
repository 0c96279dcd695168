"""Checkpoints: what is saved comes back to the bit, and a kill never spoils what was there."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maskrcnn_jax.checkpoints.load import load_for_inference
from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.checkpoints.state import create
from maskrcnn_jax.config import Config, get_config
from maskrcnn_jax.config_json import from_json, section, to_json
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.parallel.mesh import abstract, replicated
from maskrcnn_jax.training.optimizer import make_optimizer

ROOT = Path(__file__).resolve().parents[2]


def _metadata(config=None, classes=("cat", "dog")):
    return {
        "config": config or get_config(),
        "class_names": classes,
        "category_ids": tuple(range(1, len(classes) + 1)),
        "num_images": 5,
    }


@pytest.fixture
def state(toy, base_train):
    """A state of the toy, with a frozen layer and momentum."""
    _, variables, trainable = toy
    optimizer = make_optimizer(base_train, optax.constant_schedule(0.1), trainable)
    return create(jax.tree.map(jnp.copy, variables), optimizer)


@pytest.fixture
def checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path, 2, _metadata())
    yield checkpoints
    checkpoints.close()


def _shifted(state, amount):
    return jax.tree.map(lambda leaf: leaf + jnp.asarray(amount, leaf.dtype), state)


def _assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_whole_state_comes_back(checkpoints, state, one_device_mesh, tmp_path):
    saved = _shifted(state, 3)
    assert checkpoints.save(saved, 3, {"loss_total": 1.5, "odd": float("nan")}) is True
    checkpoints.wait()
    reader = Checkpoints(tmp_path, 2, _metadata())
    restored = reader.restore(abstract(state, one_device_mesh))
    _assert_equal(restored, saved)
    assert all(leaf.sharding == replicated(one_device_mesh) for leaf in jax.tree.leaves(restored))
    metadata = reader.metadata()
    assert metadata["step"] == 3
    assert metadata["config"] == from_json(to_json(get_config()))
    assert metadata["class_names"] == ("cat", "dog")
    assert metadata["category_ids"] == (1, 2)
    assert metadata["metrics"] == {"loss_total": 1.5, "odd": None}
    assert metadata["versions"]["jax"] == jax.__version__
    reader.close()


def test_a_state_may_be_donated_while_it_is_being_written(checkpoints, one_device_mesh):
    """The saved numbers are those at the call, although their memory is used again at once."""
    state = create({"params": {"w": jnp.zeros((512, 1024))}}, optax.identity())
    state = jax.device_put(state, replicated(one_device_mesh))
    overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    for step in range(1, 9):
        state = overwrite(state)
        if step in (3, 6):
            checkpoints.save(state, step, {})
    checkpoints.wait()
    restored = checkpoints.restore(abstract(state, one_device_mesh))
    np.testing.assert_array_equal(restored.params["w"], np.full((512, 1024), 6.0))


def test_only_the_newest_are_kept(checkpoints, state, tmp_path):
    for step in (1, 2, 3):
        checkpoints.save(_shifted(state, step), step, {})
    checkpoints.wait()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "3"]
    assert checkpoints.latest_step() == 3


def test_saving_a_step_twice_writes_once_and_an_older_one_never(checkpoints, state):
    assert checkpoints.save(state, 2, {"a": 1.0}) is True
    assert checkpoints.save(_shifted(state, 1), 2, {"a": 2.0}) is False
    checkpoints.wait()
    assert checkpoints.metadata()["metrics"] == {"a": 1.0}
    with pytest.raises(RuntimeError, match="step 2, newer than step 1"):
        checkpoints.save(state, 1, {})


def test_the_best_is_kept_apart(checkpoints, state, tmp_path):
    outcomes = []
    for step, value in ((1, float("nan")), (2, 0.5), (3, 0.4), (4, 0.5), (5, 0.6)):
        checkpoints.save(state, step, {})
        outcomes.append(checkpoints.save_best(state, step, {"segm/AP": value}, "segm/AP"))
    assert outcomes == [True, True, False, False, True]
    checkpoints.wait()
    assert checkpoints.best() == (5, {"segm/AP": 0.6})
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["5"]


def test_the_best_by_another_metric_is_set_aside(checkpoints, state, tmp_path, capsys):
    for step, metric in ((1, "segm/AP"), (2, "bbox/AP")):
        checkpoints.save(state, step, {})
        assert checkpoints.save_best(state, step, {metric: 0.5}, metric)
    assert checkpoints.best() == (2, {"bbox/AP": 0.5})
    assert [path.name for path in (tmp_path / "earlier").iterdir()] == ["1"]
    assert f"is now {tmp_path / 'earlier' / '1'}" in capsys.readouterr().err


def test_an_unknown_metric_is_named(checkpoints, state):
    with pytest.raises(ValueError, match=r"'segm/APx'.*segm/AP"):
        checkpoints.save_best(state, 1, {"segm/AP": 0.5}, "segm/APx")


def test_another_structure_is_described(checkpoints, state, one_device_mesh):
    checkpoints.save(state, 1, {})
    checkpoints.wait()
    target = abstract(state, one_device_mesh)
    layer = dict(target.params["trained"])
    layer["kernel"] = jax.ShapeDtypeStruct((3, 9), jnp.float32)
    layer["scale"] = layer.pop("bias")
    other = target.replace(params={**target.params, "trained": layer})
    with pytest.raises(ValueError, match="has other arrays") as error:
        checkpoints.restore(other)
    message = str(error.value)
    assert "params.trained.scale is missing" in message
    assert "params.trained.bias is unknown" in message
    assert "params.trained.kernel is float32[3, 2], not float32[3, 9]" in message


def test_nothing_to_restore(checkpoints, state, one_device_mesh):
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        checkpoints.restore(abstract(state, one_device_mesh))


def test_a_best_without_anything_to_go_on_from_is_refused(checkpoints, state, tmp_path):
    checkpoints.save(state, 4, {})
    checkpoints.save_best(state, 4, {"segm/AP": 0.5}, "segm/AP")
    checkpoints.wait()
    (tmp_path / "checkpoints" / "4").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"best holds step 4, but there is no checkpoint in"):
        Checkpoints(tmp_path, 2, _metadata())


_KILLED_WHILE_SAVING = """
import os, sys
import jax.numpy as jnp, optax
from maskrcnn_jax.config import Config, get_config
from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.checkpoints.state import create
metadata = dict(config=get_config(), class_names=("a",), category_ids=(1,), num_images=1)
checkpoints = Checkpoints(sys.argv[1], 2, metadata)
for step in (1, 2):
    params = {"w": jnp.full((2048, 4096), step, jnp.float32)}
    checkpoints.save(create({"params": params}, optax.identity()), step, {})
    if step == 1:
        checkpoints.wait()
while not any("tmp" in name for name in os.listdir(sys.argv[1] + "/checkpoints")):
    pass  # the second is not under way yet
os.kill(os.getpid(), 9)
"""


def test_a_kill_while_saving_leaves_the_one_before(tmp_path, one_device_mesh):
    command = [sys.executable, "-c", _KILLED_WHILE_SAVING, str(tmp_path)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    folder = tmp_path / "checkpoints"
    assert any("tmp" in path.name for path in folder.iterdir())  # the second was under way
    checkpoints = Checkpoints(tmp_path, 2, _metadata())
    assert checkpoints.latest_step() == 1
    state = create({"params": {"w": jnp.zeros((2048, 4096))}}, optax.identity())
    restored = checkpoints.restore(abstract(state, one_device_mesh))
    assert float(restored.params["w"].min()) == float(restored.params["w"].max()) == 1.0
    assert checkpoints.save(restored, 2, {}) is True
    checkpoints.close()
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]


@pytest.fixture
def trained(tmp_path, tiny_config):
    """A work directory with steps 1 and 2 of the tiny detector, step 1 being the best."""
    model = make_model(tiny_config.model, 3)
    shapes = abstract_variables(model)
    checkpoints = Checkpoints(tmp_path, 2, _metadata(tiny_config, ("a", "b", "c")))
    for step in (1, 2):
        variables = jax.tree.map(lambda s, n=step: jnp.full(s.shape, n, s.dtype), shapes)
        state = create(variables, optax.trace(0.9))
        checkpoints.save(state, step, {})
        checkpoints.save_best(state, step, {"segm/AP": -step}, "segm/AP")
    checkpoints.close()
    return tmp_path


def test_loading_for_inference(trained, tiny_config):
    for which, step in (("last", 2), ("best", 1), (1, 1), ("2", 2)):
        variables, metadata = load_for_inference(trained, which)
        assert set(variables) == {"params", "batch_stats"}
        assert {float(leaf.ravel()[0]) for leaf in jax.tree.leaves(variables)} == {step}
        assert metadata["step"] == step
        assert metadata["config"] == from_json(to_json(tiny_config))
    before = sorted(path.name for path in trained.rglob("*"))
    load_for_inference(trained)
    assert sorted(path.name for path in trained.rglob("*")) == before


def test_an_older_configuration_is_read_under_todays_keys(checkpoints, state):
    config = checkpoints._metadata["config"]
    del config["train"]["layers"], config["init"], config["data"]["augment"]
    config["data"]["flip"] = 0.25
    for trained, layers in ((0, "heads"), (3, "3+"), (5, "all")):
        config["model"]["backbone"]["trainable_stages"] = trained
        checkpoints.save(state, trained + 1, {})
        checkpoints.wait()
        read = checkpoints.metadata()["config"]
        config_read = section(Config, read)
        assert config_read.train.layers == layers
        assert config_read.init == "none"
        assert config_read.model == get_config().model
        assert config_read.data.augment == replace(get_config().data.augment, flip=0.25)


def test_what_is_not_there_to_load_is_named(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 7 .* there are 1, 2"):
        load_for_inference(trained, 7)
    with pytest.raises(ValueError, match="'newest' was asked for; give last, best"):
        load_for_inference(trained, "newest")
    with pytest.raises(FileNotFoundError, match="give the work directory of a training run"):
        load_for_inference(tmp_path / "nowhere")
    (trained / "best").rename(trained / "moved")
    with pytest.raises(FileNotFoundError, match="not been evaluated yet; give last"):
        load_for_inference(trained, "best")
    (tmp_path / "fresh" / "checkpoints").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no complete checkpoint .* none yet"):
        load_for_inference(tmp_path / "fresh")


def test_weights_of_another_model_are_refused(tmp_path, tiny_config):
    checkpoints = Checkpoints(tmp_path, 2, _metadata(tiny_config))
    checkpoints.save(create({"params": {"w": jnp.zeros(3)}}, optax.identity()), 1, {})
    checkpoints.close()
    with pytest.raises(ValueError, match=r"has other arrays than this model.*params.w is unknown"):
        load_for_inference(tmp_path)


def test_a_time_that_there_is_not_is_told(checkpoints, state, tmp_path):
    checkpoints.save(state, 3, {})
    checkpoints.wait()
    (file,) = tmp_path.rglob("_CHECKPOINT_METADATA")
    content = json.loads(file.read_text())
    content |= dict.fromkeys(("init_timestamp_nsecs", "commit_timestamp_nsecs"), 10**30)
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="is damaged: the times in its _CHECKPOINT_METADATA"):
        load_for_inference(tmp_path)
