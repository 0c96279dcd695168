"""What the processes of `forked.py` need not import: no TensorFlow, and JAX has no devices yet."""

import hotcoco  # noqa: F401

import maskrcnn_jax.cli.eval
import maskrcnn_jax.cli.predict
import maskrcnn_jax.cli.pretrained
import maskrcnn_jax.cli.train
import maskrcnn_jax.models.losses
import maskrcnn_jax.ops.pooling.products
import maskrcnn_jax.ops.pooling.windows_gradient  # noqa: F401
