"""A toy detector for the mechanics of training, and random batches for the real one."""

import shutil
import subprocess

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.config import get_config as base_config
from maskrcnn_jax.models.build import initial_variables
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.parallel.config import MeshConfig
from maskrcnn_jax.parallel.mesh import make_mesh
from tests.end_to_end.tiny import get_config as tiny_get_config


class Toy(nn.Module):
    """Two dense layers with a `losses` method like the detector's."""

    config = ModelConfig()

    def setup(self):
        self.frozen = nn.Dense(3)
        self.trained = nn.Dense(2)
        self.seen = self.variable("batch_stats", "seen", lambda: jnp.zeros(()))

    def __call__(self, image):
        return self.trained(self.frozen(image.reshape(image.shape[0], -1, 3).mean(1) / 255.0))

    def losses(self, batch, rng):
        noise = jax.random.uniform(rng)
        loss = jnp.square(self(batch["image"]) - noise).mean()
        self.seen.value += batch["image"].shape[0]
        counts = jnp.ones((batch["image"].shape[0], 3), jnp.int32)
        stages = {"anchor_counts": counts, "roi_counts": counts[:, :2]}
        return {"loss_mask": loss, "loss_total": loss}, stages


@pytest.fixture(scope="session")
def toy():
    """The toy's model, variables and which of its parameters are trainable."""
    model = Toy()
    variables = initial_variables(model, jax.random.key(0))
    trainable = {
        layer: jax.tree.map(lambda _, name=layer: name == "trained", leaves)
        for layer, leaves in variables["params"].items()
    }
    return model, variables, trainable


@pytest.fixture
def base_train():
    """`config.train` as it is by default."""
    return base_config().train


@pytest.fixture
def tiny_config():
    """The configuration of the smallest run."""
    return tiny_get_config()


@pytest.fixture(scope="session")
def one_device_mesh():
    return make_mesh(MeshConfig(**{"data": 1}))


@pytest.fixture(scope="session")
def random_batch():
    """Gives a batch of noise with one true box in each image, as the pipeline would."""

    def make(batch_size, bucket, config, seed=0):
        rng = np.random.default_rng(seed)
        height, width = bucket
        slots, side = config.data.max_instances, config.data.mask_size
        boxes = np.zeros((batch_size, slots, 4), np.float32)
        boxes[:, 0] = (8, 12, 40, 36)
        classes = np.zeros((batch_size, slots), np.int32)
        classes[:, 0] = 1 + np.arange(batch_size) % 3
        return {
            "image": rng.integers(0, 256, (batch_size, height, width, 3), np.uint8),
            "image_size": np.tile(np.float32([height, width]), (batch_size, 1)),
            "gt_boxes": boxes,
            "gt_classes": classes,
            "gt_masks": rng.integers(0, 256, (batch_size, slots, side, side), np.uint8),
            "gt_crowd": np.zeros((batch_size, slots), bool),
            "gt_valid": classes > 0,
            "image_valid": np.ones(batch_size, bool),
        }

    return make


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("tests of a full disk mount a tmpfs of 1 MiB: run them as root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
