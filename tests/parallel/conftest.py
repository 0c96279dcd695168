"""Fixtures of training that are needed here, too."""

from tests.training.conftest import base_train, one_device_mesh, tiny_config, toy

__all__ = ["base_train", "one_device_mesh", "tiny_config", "toy"]
