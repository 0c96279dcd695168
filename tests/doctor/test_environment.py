"""What is reported of the machine, and what is kept back."""

import sys
from importlib import metadata

import jax
import pytest

from maskrcnn_jax.doctor import environment


def test_versions_are_those_installed():
    found = environment.versions()
    assert found["jax"] == jax.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_package_that_is_missing_is_named(monkeypatch):
    def version(name):
        if name in ("optax", "flax", "tensorflow", "tensorflow-cpu", "torch"):
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(environment.metadata, "version", version)
    with pytest.raises(ModuleNotFoundError, match="not installed: flax, optax; python -m pip"):
        environment.versions()


def test_only_variables_that_matter_are_told(monkeypatch):
    values = {
        "XLA_FLAGS": "--xla_dump_to=d",
        "JAX_PLATFORMS": "cpu",
        "JAX_SERVICE_TOKEN": "secret",
        "TF_VAR_db_login": "secret",  # Terraform's
        "AWS_SECRET_ACCESS_KEY": "secret",
        "HOME": "secret",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    told = environment.variables()
    assert told["XLA_FLAGS"] == "--xla_dump_to=d"
    assert told["JAX_PLATFORMS"] == "cpu"
    assert "secret" not in told.values()


def test_the_cluster_is_seen_by_its_variables(monkeypatch):
    for variable in environment._CLUSTERS.values():
        monkeypatch.delenv(variable, raising=False)
    assert environment.clusters() == []
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert environment.clusters() == ["Slurm"]


def test_folders_that_exist_and_that_do_not(tmp_path):
    assert environment.folder(tmp_path)["folder"] == str(tmp_path)
    assert (
        environment.folder(tmp_path / "a" / "b")["folder"] == f"{tmp_path / 'a' / 'b'}, to be made"
    )
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        environment.folder(tmp_path / "file" / "b")
