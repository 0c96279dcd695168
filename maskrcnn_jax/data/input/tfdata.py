"""The engine of batches on tf.data; the only module that imports TensorFlow.

It keeps TensorFlow away from accelerators. `thread_pool` makes the same batches without it.
"""

import os
from collections.abc import Callable, Generator, Mapping

# TensorFlow computes nothing here, but would print notices on its speed at every start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import tensorflow as tf

from maskrcnn_jax.data.input.thread_pool import Row

tf.config.set_visible_devices([], "GPU")


def batches(
    prepare: Callable[[int], Row],
    spec: Mapping[str, tuple[tuple[int | None, ...], type]],
    positions: range,
    batch_size: int,
    workers: int,
    prefetch: int,
) -> Generator[Row]:
    """Yields what `thread_pool.batches` yields, in the same order.

    Args:
        prepare: as there.
        spec: shape and dtype of every array of a row, in their order; None is any length.
        positions: as there.
        batch_size: as there.
        workers: as there.
        prefetch: as there.

    Raises:
        tf.errors.OpError: where `prepare` raises, with that error's traceback in the message.
    """
    dtypes = [tf.as_dtype(dtype) for _, dtype in spec.values()]

    def prepare_tensors(position: tf.Tensor) -> tuple[tf.Tensor, ...]:
        tensors = tf.numpy_function(lambda p: list(prepare(int(p))), [position], dtypes)
        for tensor, (shape, _) in zip(tensors, spec.values(), strict=True):
            tensor.set_shape(shape)
        return tuple(tensors)

    rows = tf.data.Dataset.range(positions.start, positions.stop)
    rows = rows.map(prepare_tensors, num_parallel_calls=workers, deterministic=True)
    options = tf.data.Options()
    options.threading.private_threadpool_size = workers + 1
    options.autotune.enabled = False
    joined = rows.batch(batch_size, drop_remainder=True).prefetch(prefetch).with_options(options)
    # No name holds the iterator, so that it ends with this frame, and its threads with it, even
    # where a traceback keeps the frame.
    yield from joined.as_numpy_iterator()
