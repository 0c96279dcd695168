"""Packages of the wheel; pyproject.toml has everything else. The recipes travel in the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["maskrcnn_jax*"]), "maskrcnn_jax.configs"],
    package_dir={"maskrcnn_jax.configs": "configs"},
)
