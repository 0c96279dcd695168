"""Where compiled programs are kept."""

from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from maskrcnn_jax import compilation
from maskrcnn_jax.compilation import ENVIRONMENT, cache_by_default, use_compilation_cache

NAMES = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    before = {name: getattr(jax.config, name) for name in NAMES}
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setattr(compilation, "_is_chosen", False)
    jax.config.update(NAMES[0], None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # or JAX would keep the folder of a test


def test_in_the_users_cache_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert use_compilation_cache() == tmp_path / "maskrcnn_jax"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "maskrcnn_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    jax.config.update(NAMES[0], None)
    assert use_compilation_cache() == Path.home() / ".cache" / "maskrcnn_jax"


def test_argument_before_environment_before_jax_setting(monkeypatch, tmp_path):
    jax.config.update(NAMES[0], str(tmp_path / "jax"))
    assert use_compilation_cache() == tmp_path / "jax"
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "environment"))
    assert use_compilation_cache() == tmp_path / "environment"
    assert use_compilation_cache(tmp_path / "argument") == tmp_path / "argument"


def test_off(monkeypatch, tmp_path):
    jax.config.update(NAMES[0], str(tmp_path))
    assert use_compilation_cache("off") is None
    assert jax.config.jax_compilation_cache_dir is None
    monkeypatch.setenv(ENVIRONMENT, "off")
    assert use_compilation_cache() is None


def test_on_by_default(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache_by_default()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "maskrcnn_jax")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.3


def test_on_by_default_leaves_a_choice_as_it_is(monkeypatch, tmp_path):
    jax.config.update(NAMES[0], str(tmp_path))
    jax.config.update(NAMES[1], 7.0)
    cache_by_default()
    assert [getattr(jax.config, name) for name in NAMES[:2]] == [str(tmp_path), 7.0]
    use_compilation_cache("off")
    cache_by_default()
    assert jax.config.jax_compilation_cache_dir is None


def test_turned_on_after_a_first_compilation_it_is_used(tmp_path):
    jax.jit(lambda x: x + 1)(1)  # JAX decides now that there is no cache
    use_compilation_cache(tmp_path)
    jax.config.update(NAMES[1], 0.0)
    jax.jit(lambda x: 2 * x)(1)
    assert any(tmp_path.iterdir())
