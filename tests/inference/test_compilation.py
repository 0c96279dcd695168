"""Where compiled programs are kept."""

from pathlib import Path

import jax
import pytest

from maskrcnn_jax.compilation import ENVIRONMENT, use_compilation_cache

NAMES = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    before = {name: getattr(jax.config, name) for name in NAMES}
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    jax.config.update(NAMES[0], None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


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
