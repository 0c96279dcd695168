"""The checks that use JAX: what they find here, and faults put in their way."""

import builtins
import re
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from maskrcnn_jax.checkpoints.state import create
from maskrcnn_jax.data.input import tfdata
from maskrcnn_jax.doctor import devices, processes, settings, timing
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.parallel.config import MeshConfig
from maskrcnn_jax.parallel.mesh import make_mesh, shard_batch
from maskrcnn_jax.training.run.log import MetricsLog


def test_devices_are_counted():
    facts = devices.devices()
    assert facts["process"] == "0 of 1"
    assert facts["devices"] == f"{jax.device_count()} x cpu (cpu)"


def test_a_wrong_sum_is_a_fault(monkeypatch):
    assert devices.collective()["sum over all devices"] == f"right, on {jax.device_count()}"
    monkeypatch.setattr(jax.lax, "psum", lambda x, _: 2 * x)
    with pytest.raises(ArithmeticError, match=r"the sum .* is 1, but .* has 2"):
        devices.collective()


@pytest.mark.parametrize(
    "product",
    [lambda a, b: jnp.zeros_like(a), lambda a, b: jnp.dot(a, b).astype(jnp.float32)],
)
def test_a_wrong_product_is_a_fault(monkeypatch, product):
    assert "%" in devices.bfloat16()["matrix product"]
    monkeypatch.setattr(jnp, "matmul", product)
    with pytest.raises(ArithmeticError, match="a product of bfloat16 matrices"):
        devices.bfloat16()


@pytest.mark.parametrize(
    ("platform", "version", "is_slow"),
    [
        ("gpu", "0.10.1", False),
        ("gpu", "0.10.2", True),
        ("cuda", "0.11.0.dev1", True),
        ("gpu", "0.11.2", False),
        ("cpu", "0.10.2", False),
        ("tpu", "0.11.0", False),
    ],
)
def test_versions_with_slow_additions_on_gpus(monkeypatch, platform, version, is_slow):
    monkeypatch.setattr(devices.jax, "devices", lambda: [SimpleNamespace(platform=platform)])
    monkeypatch.setattr(devices.jaxlib, "__version__", version)
    if is_slow:
        with pytest.raises(RuntimeError, match=f"jaxlib {version}.*46225.*deterministic"):
            devices.scatter()
    else:
        assert devices.scatter()


def test_an_accelerator_in_tensorflows_hands_is_a_fault(monkeypatch):
    assert devices.tensorflow()["accelerators held"] == "none"
    gpu = SimpleNamespace(name="/physical_device:GPU:0", device_type="GPU")
    monkeypatch.setattr(tfdata.tf.config, "get_visible_devices", lambda: [gpu])
    with pytest.raises(RuntimeError, match="TensorFlow sees /physical_device:GPU:0"):
        devices.tensorflow()


def test_tensorflow_may_be_absent(monkeypatch):
    import_ = builtins.__import__

    def without_tensorflow(name, *arguments):
        if name == "tensorflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return import_(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_tensorflow)
    monkeypatch.delitem(sys.modules, tfdata.__name__)
    monkeypatch.delattr(sys.modules["maskrcnn_jax.data.input"], "tfdata")
    assert devices.tensorflow() == {
        "tf.data": "not installed: a pool of threads prepares the batches"
    }


def test_a_recipe_is_held_to_the_devices():
    recipe = "tests/end_to_end/tiny.py"
    facts = settings.recipe(recipe, [])
    assert facts["name"] == "tiny"
    assert facts["buckets"] == "64x64"
    with pytest.raises(ValueError, match=r"config\.mesh asks for 64 devices"):
        settings.recipe(recipe, ["--config.mesh.data=64"])
    with pytest.raises(ValueError, match="batchsize"):
        settings.recipe(recipe, ["--config.train.batchsize=64"])
    with pytest.raises(ValueError, match="--config is missing; give a recipe"):
        settings.recipe(None, ["--config.train.batch_size=64"])


def test_what_a_run_has_left(tmp_path):
    assert settings.workdir(tmp_path)["checkpoints"] == "none"
    for name in ("checkpoints/20", "checkpoints/3", "checkpoints/30.orbax-tmp", "best/3"):
        (tmp_path / name).mkdir(parents=True)
    with MetricsLog(tmp_path, 0) as log:
        log.write("train", 21, {"loss_total": 1.0})
    facts = settings.workdir(tmp_path)
    assert facts["checkpoints"] == "3, 20"
    assert facts["best"] == "3"
    assert facts["last row of the log"] == "train of step 21"


@pytest.fixture
def cache_settings():
    """Puts JAX's settings of the cache back."""
    names = [
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    ]
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_what_is_in_the_compilation_cache(tmp_path, cache_settings):
    (tmp_path / "program").write_bytes(bytes(2**20))
    facts = settings.compilation_cache(str(tmp_path))
    assert facts["files"] == "1, 1.0 MiB"
    assert "off" in settings.compilation_cache("off")["folder"]


def test_a_cluster_that_is_not_joined_is_mentioned(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert "--distributed=auto joins all" in processes.join(None)["joined"]


def test_the_step_that_is_timed_can_be_traced():
    """What the model and the optimiser are given fits; to compile it takes longer."""
    config, mesh = timing.small_config(), make_mesh(MeshConfig(**{"data": 1}))
    model = make_model(config.model, timing._CLASSES)
    stage = timing._stage(config, model, mesh)
    state = jax.eval_shape(lambda tree: create(tree, stage.optimizer), abstract_variables(model))
    images = shard_batch(timing.batch(config, 1), mesh)
    new_state, metrics = jax.eval_shape(stage.train_step, state, images)
    assert jax.tree.structure(new_state) == jax.tree.structure(state)
    assert metrics["loss_total"].shape == ()


@pytest.mark.slow
def test_ten_steps():
    facts = timing.timing()
    assert re.fullmatch(r"\d+\.\d ms, the median of 10; \d+\.\d to \d+\.\d", facts["step"])
    assert float(facts["loss"].split()[0]) > 0
    assert facts["compilation again"].endswith("(from the cache)")
